// Models: Intel's 82540EM: legacy and extended descriptors, checksums, segmentation of TCP and UDP, VLAN tags and
//   filters, unicast and multicast filters, interrupt throttling, statistics, the EEPROM, the PHY
// Not modelled: the delays of RDTR, RADV, TIDV and TADV (none), flow control, wake-up, management, the packet buffer's
//   memory, writes into the EEPROM, speeds below 1000 Mb/s, time that frames take
// Ignored bits: IFCS, PSP (the cable takes short frames), descriptor prefetch and write-back thresholds
// Reference: PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual, revision 4.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/network/eeprom_93c46.hpp"
#include "devices/network/i82540em_registers.hpp"
#include "devices/network/link/link.hpp"
#include "devices/pci/pci_function.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// One ring of descriptors.
struct I82540emRing {
    uint64_t base = 0;
    uint32_t length = 0;  // bytes
    uint32_t head = 0;
    uint32_t tail = 0;
    static void fields(auto& self, auto&& visit) {
        visit("base", self.base);
        visit("length", self.length);
        visit("head", self.head);
        visit("tail", self.tail);
    }
    bool operator==(const I82540emRing&) const = default;
    [[nodiscard]] uint32_t count() const { return length / 16; }
};

/// What the last context descriptor said of checksums and segments (3.3.6).
struct I82540emContext {
    uint8_t ip_start = 0;
    uint8_t ip_offset = 0;
    uint16_t ip_end = 0;
    uint8_t start = 0;
    uint8_t offset = 0;
    uint16_t end = 0;
    uint8_t command = 0;
    uint8_t header_length = 0;
    uint16_t segment_size = 0;
    static void fields(auto& self, auto&& visit) {
        visit("ip-start", self.ip_start);
        visit("ip-offset", self.ip_offset);
        visit("ip-end", self.ip_end);
        visit("start", self.start);
        visit("offset", self.offset);
        visit("end", self.end);
        visit("command", self.command);
        visit("header-length", self.header_length);
        visit("segment-size", self.segment_size);
    }
    bool operator==(const I82540emContext&) const = default;
};

/// A packet of which the last descriptor is to come.
struct I82540emPacket {
    std::vector<uint8_t> bytes;
    bool started = false;
    bool too_long = false;
    bool segmented = false;
    uint8_t options = 0;  // POPTS of its first descriptor
    static void fields(auto& self, auto&& visit) {
        visit("bytes", self.bytes);
        visit("started", self.started);
        visit("too-long", self.too_long);
        visit("segmented", self.segmented);
        visit("options", self.options);
    }
    bool operator==(const I82540emPacket&) const = default;
};

struct I82540emState {
    std::array<uint32_t, i82540em::stored_count> stored{};  // registers that only keep what is written
    uint32_t control = 0;
    uint32_t mdic = 0;
    uint32_t eerd = 0;
    uint32_t causes = 0;  // ICR
    uint32_t mask = 0;    // IMS
    uint32_t throttle = 0;
    bool interrupt = false;
    std::optional<VirtualTime> quiet_until;  // no interrupt before then
    uint32_t receive_control = 0;
    uint32_t transmit_control = 0;
    uint32_t receive_checksum = 0;
    I82540emRing receive;
    I82540emRing transmit;
    std::array<uint32_t, 64> statistics{};
    std::array<uint32_t, 128> multicast{};
    std::array<uint32_t, 32> addresses{};
    std::array<uint32_t, 128> vlans{};
    std::array<uint16_t, 32> phy{};
    uint8_t eecd = 0;  // SK, CS, DI, REQ
    Eeprom93c46 eeprom;
    I82540emContext checksum_context;
    I82540emContext segment_context;
    I82540emPacket packet;
    std::optional<VirtualTime> resume;  // when descriptors go on that were too many at once
    uint32_t io_address = 0;
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("stored", self.stored);
        visit("control", self.control);
        visit("mdic", self.mdic);
        visit("eerd", self.eerd);
        visit("causes", self.causes);
        visit("mask", self.mask);
        visit("throttle", self.throttle);
        visit("interrupt", self.interrupt);
        visit("quiet-until", self.quiet_until);
        visit("receive-control", self.receive_control);
        visit("transmit-control", self.transmit_control);
        visit("receive-checksum", self.receive_checksum);
        visit("receive", self.receive);
        visit("transmit", self.transmit);
        visit("statistics", self.statistics);
        visit("multicast", self.multicast);
        visit("addresses", self.addresses);
        visit("vlans", self.vlans);
        visit("phy", self.phy);
        visit("eecd", self.eecd);
        visit("eeprom", self.eeprom);
        visit("checksum-context", self.checksum_context);
        visit("segment-context", self.segment_context);
        visit("packet", self.packet);
        visit("resume", self.resume);
        visit("io-address", self.io_address);
        visit("pci", self.pci);
    }
    bool operator==(const I82540emState&) const = default;
};

class I82540em final : public StatefulDevice<I82540emState>, public BusDevice {
  public:
    I82540em(NetworkPort port, Clock& clock);

    [[nodiscard]] PciFunction& pci() { return pci_; }

    void reset(ResetKind kind) override;

    /// The registers of BAR 0.
    uint64_t read(Access access) override;
    void write(Access access, uint64_t value) override;

    /// What one access carries out before the other descriptors have to wait a moment; a segment is a descriptor here.
    static constexpr unsigned descriptors_at_once = 4096;
    static constexpr size_t bytes_at_once = 4u << 20;
    /// The longest packet, before it is segmented.
    static constexpr size_t most_bytes = 65'536 + 256;
    /// What one packet may become; of more it goes nowhere.
    static constexpr size_t most_segments = 2048;

  protected:
    Result<void> validate(const I82540emState& staged) const override;
    void after_load() override;

  private:
    /// BAR 1: IOADDR and IODATA.
    class IoWindow final : public BusDevice {
      public:
        explicit IoWindow(I82540em& card) : card_(card) {}
        uint64_t read(Access access) override;
        void write(Access access, uint64_t value) override;

      private:
        I82540em& card_;
    };

    // Registers, i82540em.cpp
    uint32_t read_register(uint32_t offset);
    void write_register(uint32_t offset, uint32_t value);
    void reset_card();
    void write_control(uint32_t value);
    void write_eecd(uint32_t value);
    [[nodiscard]] uint32_t read_eecd() const;
    void write_mdic(uint32_t value);
    [[nodiscard]] uint16_t read_phy(uint32_t number) const;
    void write_phy(uint32_t number, uint16_t value);
    [[nodiscard]] bool link_up() const;
    void count(uint32_t statistic, uint32_t by = 1);
    void count_bytes(uint32_t statistic, uint64_t by);
    /// The statistics of one direction; `sizes` is the first of six.
    struct FrameStatistics {
        uint32_t all, good, all_bytes, good_bytes, sizes, broadcasts, groups;
    };
    void count_frame(const FrameStatistics& which, std::span<const uint8_t> frame, size_t on_wire);
    void cause(uint32_t bits) { state_.causes |= bits; }
    void update_irq();
    void arm_timer();
    void timer_ran();

    // i82540em_transmit.cpp
    void transmit();
    struct Work {
        size_t bytes = 0;
        size_t frames = 0;
    };
    /// Carries out a descriptor; what was done for it.
    Work transmit_descriptor(GuestMemory& memory);
    /// These say how many frames they made of the packet.
    size_t send_packet(uint16_t tag, bool tagged);
    size_t send_segments(const std::optional<uint16_t>& tag);
    void send_frame(std::span<uint8_t> frame, const std::optional<uint16_t>& tag);

    // i82540em_receive.cpp
    void receive();
    [[nodiscard]] bool accepts(std::span<const uint8_t> frame) const;
    /// False when there is no room for the frame now.
    bool receive_frame(std::span<const uint8_t> frame, GuestMemory& memory);

    NetworkPort port_;
    std::array<uint16_t, Eeprom93c46::words> eeprom_{};
    PciFunction pci_;
    IoWindow io_{*this};
    Clock& clock_;
    Timer timer_;
    std::vector<uint8_t> scratch_;
};

/// Makes `intel,82540em`: `reg` = <device function>, local-mac-address, viv,link. Needs PciBus.
Result<std::unique_ptr<Device>> make_i82540em(DeviceContext& context);

}  // namespace viv
