#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "devices/fuzz_board_test.hpp"
#include "devices/network/tcp_packet_rig_test.hpp"
#include "devices/network/test_link_test.hpp"
#include "devices/pci/i440fx.hpp"

namespace viv {

/// A NIC of a fuzz target in 256 KiB of RAM, and the other end of its cable, where the input acts as well. Makers are
/// those of test_link_test.hpp.
class NicFuzz : public FuzzBoard {
  public:
    /// Where its registers are.
    static constexpr uint16_t io = 0xC000;
    static constexpr uint64_t base = 0xE0000000;

    explicit NicFuzz(FuzzInput& input) : input_(input) {
        VIV_ASSERT(memory.add(Gpa{0}, 0x40000, GuestMemory::Kind::ram, "RAM").has_value());
        // For cards that look into what they send.
        const auto packet = TcpPacketRig().packet();
        memory.write(Gpa{0}, std::as_bytes(std::span(packet)));
        services.provide(wire);
        bridge_ = make(make_i440fx, {{DeviceRange::Space::ports, 0xCF8, 8}});
    }

    void insert(DeviceMaker maker) {
        constexpr PciAddress at{0, 4, 0};
        card_ = make(maker, {}, at.device);
        PciFunction& function = *services.find<PciBus>()->find(at);
        for (const unsigned bar : {pci::BAR0 + 0u, pci::BAR0 + 4u}) {
            const bool ports_bar = function.config_read(bar, 4) & pci::BAR_IO;
            function.config_write(bar, 4, ports_bar ? io : static_cast<uint32_t>(base));
        }
        function.config_write(pci::COMMAND, 2, pci::IO_SPACE | pci::MEMORY_SPACE | pci::BUS_MASTER);
    }
    void insert_isa(DeviceMaker maker, uint64_t size) { card_ = make(maker, {{DeviceRange::Space::ports, io, size}}); }

    void save_and_load_card() { save_and_load(*card_); }

    /// What comes over the cable: frames of any size to anybody, what the card has sent, or nothing any more.
    void other_end(uint8_t choice) {
        if (choice == 0) return wire.plug(!wire.up);
        if (choice == 1) {
            for (auto& frame : std::exchange(wire.sent, {})) arrive(std::move(frame));
            return;
        }
        const size_t size = choice & 1 ? input_.number(2) : input_.byte();
        std::vector<uint8_t> frame = test_frame(std::max(size, NetworkLink::least_frame));
        if (choice & 2) std::fill_n(frame.begin(), 6, uint8_t{0xFF});
        // From the type on, or all.
        const size_t from = choice & 4 ? 12 : 0;
        if (choice & 0xC) input_.bytes(frame.data() + from, std::min<size_t>(frame.size() - from, 64));
        arrive(std::move(frame));
    }

    TestWire wire;

  private:
    /// As links do: no frames that cannot be, and no more than can wait.
    void arrive(std::vector<uint8_t> frame) {
        constexpr size_t most_waiting = 32;
        const bool good = frame.size() >= NetworkLink::least_frame && frame.size() <= NetworkLink::most_frame;
        if (wire.up && good && wire.waiting.size() < most_waiting) wire.deliver(std::move(frame));
    }

    FuzzInput& input_;
    std::unique_ptr<Device> bridge_;
    std::unique_ptr<Device> card_;
};

}  // namespace viv
