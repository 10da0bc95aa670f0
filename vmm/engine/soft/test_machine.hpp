#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>

#include "vmm/core/catch.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/soft_engine.hpp"

/// A machine of one CPU, memory and a port bus that tests script.
namespace viv::soft_test {

class TestMachine : public VcpuHost {
  public:
    explicit TestMachine(uint64_t memory_size = 0x400000, uint32_t cpus = 2, const std::string& model = "max") {
        REQUIRE(memory.add(Gpa{0}, memory_size, GuestMemory::Kind::ram, "ram"));
        auto made = make_soft_engine(EngineConfig{memory, cpus, model}, clock);
        REQUIRE(made);
        engine = std::move(*made);
        // What can be host code is it at once; the first access of each page is the interpreter's anyway.
        jit().threshold = 1;
        jit().shortest_row = 1;
        auto cpu = engine->create_vcpu(VcpuId{0});
        REQUIRE(cpu);
        vcpu = std::move(*cpu);
    }

    void code(uint64_t address, std::initializer_list<uint8_t> bytes) {
        for (const uint8_t byte : bytes) memory.store(Gpa{address++}, byte);
    }
    /// Real mode with all segments 0 and the stack below 8000h.
    void start_real(uint16_t ip) {
        CpuState s = reset_state(true);
        s.cs.selector = 0;
        s.cs.base = 0;
        s.rip = ip;
        s.gpr[RSP] = 0x8000;
        REQUIRE(vcpu->set_state(s));
    }
    soft::Jit& jit() { return static_cast<soft::SoftEngine*>(engine.get())->blocks.jit; }
    Stop run(uint64_t budget = 1'000'000) { return vcpu->run(*this, budget); }
    CpuState state() { return *vcpu->state(); }

    uint64_t port_read(uint16_t port, uint8_t) override { return on_port_read ? on_port_read(port) : 0xFF; }
    void port_write(uint16_t port, uint8_t, uint64_t value) override {
        if (on_port_write) on_port_write(port, value);
    }
    void port_read_block(uint16_t port, uint8_t size, std::span<std::byte> data) override {
        for (size_t n = 0; n < data.size(); n += size) {
            const uint64_t value = port_read(port, size);
            std::memcpy(data.data() + n, &value, size);
        }
    }
    void port_write_block(uint16_t port, uint8_t size, std::span<const std::byte> data) override {
        for (size_t n = 0; n < data.size(); n += size) {
            uint64_t value = 0;
            std::memcpy(&value, data.data() + n, size);
            port_write(port, size, value);
        }
    }
    uint64_t memory_read(Gpa, uint8_t) override { return ~uint64_t{0}; }
    void memory_write(Gpa, uint8_t, uint64_t) override {}
    uint8_t acknowledge_interrupt() override {
        vcpu->set_intr(false);
        return pic_vector;
    }
    void end_of_interrupt(uint8_t) override {}
    bool x87_error(bool pending) override { return !on_x87_error || on_x87_error(pending); }

    GuestMemory memory;
    VirtualClock clock{100};
    std::unique_ptr<Engine> engine;
    std::unique_ptr<Vcpu> vcpu;
    uint8_t pic_vector = 8;
    std::function<uint64_t(uint16_t)> on_port_read;
    std::function<void(uint16_t, uint64_t)> on_port_write;
    std::function<bool(bool)> on_x87_error;
};

}  // namespace viv::soft_test
