#pragma once

#include <cstdlib>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "vmm/core/catch.hpp"
#include "vmm/engine/kvm/kvm_engine.hpp"

namespace viv::testing {

/// What a test's guest talks to: writes are recorded, reads come from tables, and a port can stop the CPU.
class RecordingHost : public VcpuHost {
  public:
    struct Write {
        uint64_t address;
        uint8_t size;
        uint64_t value;
        bool operator==(const Write&) const = default;
    };
    static constexpr uint16_t stop_port = 0xF4;

    uint64_t port_read(uint16_t port, uint8_t) override { return port_values[port]; }
    void port_write(uint16_t port, uint8_t size, uint64_t value) override {
        port_writes.push_back({port, size, value});
        if (on_port_write) on_port_write(port, value);
        if (port == stop_port && vcpu) vcpu->kick();
    }
    void port_read_block(uint16_t port, uint8_t size, std::span<std::byte> data) override {
        blocks.push_back({port, size, data.size()});
        for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i + 1);
    }
    void port_write_block(uint16_t port, uint8_t size, std::span<const std::byte> data) override {
        for (size_t at = 0; at < data.size(); at += size) {
            uint64_t value = 0;
            std::memcpy(&value, data.data() + at, size);
            port_writes.push_back({port, size, value});
        }
    }
    uint64_t memory_read(Gpa address, uint8_t) override { return memory_values[address.value]; }
    void memory_write(Gpa address, uint8_t size, uint64_t value) override {
        memory_writes.push_back({address.value, size, value});
        if (on_memory_write) on_memory_write(address, value);
    }
    uint8_t acknowledge_interrupt() override {
        ++acknowledged;
        vcpu->set_intr(false);
        if (kick_on_acknowledge) vcpu->kick();
        return vector;
    }
    void end_of_interrupt(uint8_t ended) override { ends.push_back(ended); }

    Vcpu* vcpu = nullptr;
    std::map<uint16_t, uint64_t> port_values;
    std::map<uint64_t, uint64_t> memory_values;
    std::vector<Write> port_writes, memory_writes, blocks;
    std::function<void(uint16_t, uint64_t)> on_port_write;
    std::function<void(Gpa, uint64_t)> on_memory_write;
    int acknowledged = 0;
    bool kick_on_acknowledge = false;
    uint8_t vector = 0x20;
    std::vector<uint8_t> ends;
};

/// A machine of an engine, CPUs and 4 MiB of RAM. ready() is false, and the reason recorded, where the host has no KVM.
class Rig {
  public:
    static constexpr uint64_t ram = 4 << 20;

    using MakeRescuer = Result<std::unique_ptr<Rescuer>> (*)(GuestMemory&);

    explicit Rig(uint32_t cpus = 1, std::string model = "max", MakeRescuer make_rescuer = nullptr) {
        REQUIRE(memory.add(Gpa{0}, ram, GuestMemory::Kind::ram, "ram"));
        RescuerFactory rescuers;
        if (make_rescuer) rescuers = [this, make_rescuer] { return make_rescuer(memory); };
        auto made = make_kvm_engine({memory, cpus, std::move(model)}, std::move(rescuers));
        if (!made) {
            reason = made.error().message;
            return;
        }
        engine = std::move(*made);
        for (uint32_t id = 0; id < cpus; ++id) {
            auto vcpu = engine->create_vcpu(VcpuId{id});
            REQUIRE(vcpu);
            vcpus.push_back(std::move(*vcpu));
            hosts.emplace_back().vcpu = vcpus.back().get();
        }
    }
    [[nodiscard]] bool ready() const { return engine != nullptr; }
    Vcpu& cpu(size_t i = 0) { return *vcpus[i]; }
    RecordingHost& host(size_t i = 0) { return hosts[i]; }

    void load(uint64_t address, std::initializer_list<uint8_t> code) {
        const std::vector<uint8_t> bytes(code);
        REQUIRE(memory.write(Gpa{address}, std::as_bytes(std::span(bytes))));
    }
    /// Real mode at 0:1000h, stack below, IF clear.
    static CpuState real_mode(uint64_t rip = 0x1000) {
        CpuState state = reset_state(true);
        state.cs.selector = 0;
        state.cs.base = 0;
        state.rip = rip;
        state.gpr[RSP] = 0x0F00;
        return state;
    }
    /// 32-bit protected mode without paging, flat segments. The descriptors exist only in the hidden parts.
    static CpuState protected_mode(uint64_t rip = 0x1000) {
        CpuState state = real_mode(rip);
        state.cr0 = 0x60000011;
        const SegmentRegister flat{
            .selector = 0x10, .limit = 0xFFFFFFFF, .type = 3, .default_big = true, .granularity = true};
        state.ds = state.es = state.fs = state.gs = state.ss = flat;
        state.cs = flat;
        state.cs.selector = 8;
        state.cs.type = 11;
        return state;
    }
    /// 64-bit mode at CPL 0; identity-maps the first 4 MiB with tables at 10_0000h.
    CpuState long_mode(uint64_t rip = 0x1000) {
        CpuState state = protected_mode(rip);
        constexpr uint64_t tables = 0x100000;
        memory.store<uint64_t>(Gpa{tables}, (tables + 0x1000) | 7);
        memory.store<uint64_t>(Gpa{tables + 0x1000}, (tables + 0x2000) | 7);
        memory.store<uint64_t>(Gpa{tables + 0x2000}, 0x87);
        memory.store<uint64_t>(Gpa{tables + 0x2008}, 0x200087);
        state.cr3 = tables;
        state.cr4 = 0x620;  // PAE, OSFXSR, OSXMMEXCPT
        state.cr0 = 0xE0000011;
        state.efer = 0x500;
        state.cs.long_mode = true;
        state.cs.default_big = false;
        return state;
    }
    Stop run(const CpuState& state, size_t i = 0) {
        const auto set = cpu(i).set_state(state);
        INFO((set ? std::string() : set.error().message));
        REQUIRE(set);
        const Stop stop = cpu(i).run(host(i), ~uint64_t{0});
        INFO(cpu(i).failure());
        CHECK(stop != Stop::failed);
        return stop;
    }

    GuestMemory memory;
    std::unique_ptr<Engine> engine;
    std::vector<std::unique_ptr<Vcpu>> vcpus;
    std::deque<RecordingHost> hosts;
    std::string reason;
};

}  // namespace viv::testing

/// A rig, or the end of a test case that this host cannot run.
#define VIV_KVM_RIG(rig, ...)           \
    viv::testing::Rig rig{__VA_ARGS__}; \
    if (!rig.ready()) VIV_SKIP(rig.reason)
