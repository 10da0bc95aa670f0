#include "vmm/firmware/chipset.hpp"

#include <algorithm>
#include <cstddef>
#include <span>

#include "bios/layout.hpp"
#include "bios/rom_images.hpp"

namespace viv::firmware {
namespace {

constexpr PciAddress host_bridge{0, 0, 0};

// Programmable attribute map (82441FX, 3.2.18): a nibble is 1 for reads of RAM, 2 for writes to it.
constexpr unsigned PAM0 = 0x59;  // F0000h in the upper nibble
constexpr unsigned PAM1 = 0x5A;  // C0000h, C4000h; and so on
constexpr unsigned PAM6 = 0x5F;  // E8000h, EC000h

constexpr uint32_t piix3_id = 0x70008086, piix3_ide_id = 0x70108086, piix4_pm_id = 0x71138086;
constexpr unsigned PIRQRC = 0x60;                                                    // PIIX3: PIRQA# to PIRQD#
constexpr unsigned PMBASE = 0x40, PMREGMISC = 0x80, SMBBA = 0x90, SMBHSTCFG = 0xD2;  // PIIX4, function 3
constexpr unsigned IDETIM = 0x40;  // PIIX3, function 1: a word a channel
constexpr uint16_t ide_decode_enable = 0x8000;
constexpr uint16_t edge_level_control = 0x4D0;  // two ports, a bit an interrupt

class BusConfig final : public PciConfig {
  public:
    explicit BusConfig(PciBus& bus) : bus_(bus) {}
    uint32_t read(PciAddress at, unsigned offset, unsigned size) override { return bus_.config_read(at, offset, size); }
    void write(PciAddress at, unsigned offset, unsigned size, uint32_t value) override {
        bus_.config_write(at, offset, size, value);
    }

  private:
    PciBus& bus_;
};

void open_smbus(PciBus& bus, PciAddress at, uint16_t ports) {
    bus.config_write(at, SMBBA, 4, ports);
    bus.config_write(at, SMBHSTCFG, 1, 1);
}

constexpr unsigned video_segments = (rom::video_rom_size + 0x3FFF) / 0x4000;

}  // namespace

PciApertures pci_apertures(uint64_t high_ram_end) {
    constexpr uint64_t gib = uint64_t{1} << 30;
    // RAM below 4 GiB ends at 3 GiB at the latest.
    return {{0xC000, 0x10000},
            {3 * gib, PciBus::chipset_base},
            {(high_ram_end + gib - 1) / gib * gib, PciBus::address_limit}};
}

void shadow_roms(GuestMemory& memory, PciBus& bus, const PciPlan& plan) {
    const GuestMemory::Change change(memory);
    const auto set = [&bus](unsigned offset, uint8_t value) { bus.config_write(host_bridge, offset, 1, value); };
    const auto set_video = [&](unsigned nibble) {
        for (unsigned i = 0; i < video_segments; ++i) {
            const unsigned at = PAM1 + i / 2;
            const uint32_t old = bus.config_read(host_bridge, at, 1);
            set(at, static_cast<uint8_t>(i % 2 ? (old & 0x0F) | nibble << 4 : (old & 0xF0) | nibble));
        }
    };
    set(PAM0, 0x30);
    set_video(0x3);
    set(PAM6, 0x30);
    memory.write(Gpa{uint64_t{rom::video_rom_segment} * 16}, rom::video_bios());
    const Gpa system_rom{uint64_t{rom::system_rom_segment} * 16};
    memory.write(system_rom, rom::system_bios());
    memory.store(system_rom + rom::system_header_offset + offsetof(rom::SystemRomHeader, pci_buses),
                 static_cast<uint8_t>(std::min(plan.last_bus + 1, 255)));
    set(PAM0, 0x10);
    set_video(0x1);
}

PciSetup set_up_chipset(PciBus& bus, Bus& ports, const PciApertures& apertures) {
    for (const PciAddress at : bus.addresses()) {
        const uint32_t id = bus.config_read(at, pci::VENDOR_ID, 4);
        if (id == piix3_id) {
            for (unsigned i = 0; i < pirq_irqs.size(); ++i) bus.config_write(at, PIRQRC + i, 1, pirq_irqs[i]);
            uint16_t level = 0;
            for (const uint8_t irq : pirq_irqs) level = static_cast<uint16_t>(level | 1u << irq);
            ports.write_held(edge_level_control, 1, level & 0xFF);
            ports.write_held(edge_level_control + 1, 1, level >> 8);
        } else if (id == piix3_ide_id) {
            for (const unsigned channel : {0u, 2u}) bus.config_write(at, IDETIM + channel, 2, ide_decode_enable);
            bus.config_write(at, pci::COMMAND, 2, pci::BUS_MASTER);
        } else if (id == piix4_pm_id) {
            bus.config_write(at, PMBASE, 4, pm_ports);
            bus.config_write(at, PMREGMISC, 1, 1);
            open_smbus(bus, at, smbus_ports);
            bus.config_write(at, pci::COMMAND, 2, pci::IO_SPACE);
        }
    }
    BusConfig config(bus);
    return {set_up_pci(config, apertures, pirq_irqs), apertures};
}

void open_smbus_for_other_firmware(PciBus& bus) {
    for (const PciAddress at : bus.addresses()) {
        if (bus.config_read(at, pci::VENDOR_ID, 4) == piix4_pm_id) open_smbus(bus, at, others_smbus_ports);
    }
}

}  // namespace viv::firmware
