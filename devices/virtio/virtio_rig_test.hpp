#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "devices/pci/pci_registers.hpp"
#include "devices/pci/pci_rig_test.hpp"
#include "devices/virtio/virtio_pci.hpp"
#include "devices/virtio/virtqueue_rig_test.hpp"

namespace viv {

/// A service of tests that makes the function of the device under test.
struct VirtioFunctionSource {
    std::function<std::unique_ptr<VirtioFunction>()> make;
};

inline Result<std::unique_ptr<Device>> make_tested_virtio_pci(DeviceContext& context) {
    VirtioFunctionSource& source = *TRY(context.need<VirtioFunctionSource>("a function for a test"));
    auto device = std::make_unique<VirtioPci>(source.make(), context.clock);
    TRY(device->pci().attach(context));
    return device;
}

/// A virtio device on a PCI bus, 4 MiB of RAM, and a driver.
class VirtioBoard : public PciBoard {
  public:
    struct Messages final : MsiSink {
        void send(uint64_t address, uint32_t data) override { sent.emplace_back(address, data); }
        std::vector<std::pair<uint64_t, uint32_t>> sent;
    };
    static constexpr uint64_t ram = 0x400000;
    static constexpr uint64_t base = 0xE0000000, vectors = 0xE1000000;
    static constexpr uint16_t legacy = 0xC000;
    static constexpr uint64_t buffer = 0x200000;
    static constexpr PciAddress at{0, 4, 0};

    explicit VirtioBoard(std::function<std::unique_ptr<VirtioFunction>()> make_function_of_test) {
        source_.make = std::move(make_function_of_test);
        services.provide(source_);
        if (!memory.add(Gpa{0}, ram, GuestMemory::Kind::ram, "RAM")) FAIL("no RAM");
        make_function(make_tested_virtio_pci, at.device, at.function);
        open();
        bus().pirq(PciBus::pirq_of(at, 1)).connect(wire, 0);
        bus().connect(messages);
    }
    /// What a BIOS does; again after a reset.
    void open() {
        set_config(at, pci::BAR0, 4, legacy);
        set_config(at, pci::BAR0 + 4, 4, static_cast<uint32_t>(vectors));
        set_config(at, pci::BAR0 + 16, 4, static_cast<uint32_t>(base));
        set_config(at, pci::COMMAND, 2, pci::IO_SPACE | pci::MEMORY_SPACE | pci::BUS_MASTER);
    }

    // Registers of the common configuration
    uint64_t get(uint64_t offset, uint8_t size) { return memory_bus.read(base + offset, size); }
    void set(uint64_t offset, uint8_t size, uint64_t value) { memory_bus.write(base + offset, size, value); }
    uint8_t status() { return static_cast<uint8_t>(get(20, 1)); }
    void set_status(uint8_t value) { set(20, 1, value); }
    uint8_t isr() { return static_cast<uint8_t>(get(VirtioPci::isr, 1)); }
    uint64_t configuration(uint64_t offset, uint8_t size) { return get(VirtioPci::configuration + offset, size); }
    uint64_t offered() {
        set(0, 4, 0);
        const uint64_t low = get(4, 4);
        set(0, 4, 1);
        return get(4, 4) << 32 | low;
    }
    void accept(uint64_t bits) {
        set(8, 4, 0);
        set(12, 4, bits & 0xFFFFFFFF);
        set(8, 4, 1);
        set(12, 4, bits >> 32);
    }

    /// Resets the device and starts it with these features (of those offered, and virtio::VERSION_1), all queues with
    /// `entries`.
    void start(uint64_t wanted, uint16_t entries = 16) {
        set_status(0);
        set_status(virtio::ACKNOWLEDGE | virtio::DRIVER);
        features = (wanted | virtio::VERSION_1) & offered();
        accept(features);
        set_status(virtio::ACKNOWLEDGE | virtio::DRIVER | virtio::FEATURES_OK);
        REQUIRE((status() & virtio::FEATURES_OK));
        rings.clear();
        const auto count = static_cast<uint16_t>(get(18, 2));
        for (uint16_t i = 0; i < count; ++i) start_queue(i, entries);
        set_status(virtio::ACKNOWLEDGE | virtio::DRIVER | virtio::FEATURES_OK | virtio::DRIVER_OK);
    }
    void start_queue(uint16_t index, uint16_t entries) {
        RingDriver ring(memory, 0x10000 + uint64_t{0x6000} * index, entries, features);
        set(22, 2, index);
        set(24, 2, entries);
        set(26, 2, index);
        set(32, 8, ring.descriptors());
        set(40, 8, ring.driver());
        set(48, 8, ring.device());
        set(28, 2, 1);
        rings[index] = ring;
    }
    void tell(unsigned queue) { set(VirtioPci::notify + 4 * queue, 2, queue); }
    /// Gives a buffer to the device; what comes back at once.
    std::optional<RingDriver::Used> run(unsigned queue, const std::vector<RingDriver::Piece>& pieces,
                                        RingDriver::Place place = RingDriver::Place::ring) {
        rings.at(queue).add(pieces, place);
        tell(queue);
        return rings.at(queue).take();
    }
    void enable_vectors() {
        uint32_t next = config(at, pci::CAPABILITIES, 1);
        while (next != 0 && config(at, next, 1) != pci::CAPABILITY_MSI_X) next = config(at, next + 1, 1);
        REQUIRE(next != 0);
        for (uint32_t i = 0; i <= (config(at, next + 2, 2) & 0x7FF); ++i) {
            memory_bus.write(vectors + 16 * i, 4, 0xFEE00000);
            memory_bus.write(vectors + 16 * i + 8, 4, 0x40 + i);
            memory_bus.write(vectors + 16 * i + 12, 4, 0);
        }
        set_config(at, next + 2, 2, 0x8000);
    }
    std::vector<uint8_t> bytes_at(uint64_t address, size_t size) {
        std::vector<uint8_t> got(size);
        memory.read(Gpa{address}, std::as_writable_bytes(std::span(got)));
        return got;
    }
    void put(uint64_t address, std::span<const uint8_t> bytes) { memory.write(Gpa{address}, std::as_bytes(bytes)); }
    /// For the contract tests: as if nobody had opened it.
    template <class Board>
    static std::unique_ptr<ContractRig> closed() {
        auto board = std::make_unique<Board>();
        board->device->reset(ResetKind::power_on);
        return board;
    }
    void save_and_load() {
        auto commit = device->prepare_load(device->save());
        REQUIRE(commit.has_value());
        (*commit)();
    }

    uint64_t features = 0;
    std::map<unsigned, RingDriver> rings;
    Wire& wire = new_wire();
    Messages messages;

  private:
    VirtioFunctionSource source_;
};

}  // namespace viv
