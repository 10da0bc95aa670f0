#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "devices/pci/pci_registers.hpp"
#include "devices/pci/pci_rig_test.hpp"
#include "devices/storage/ahci.hpp"
#include "devices/storage/ata_disk.hpp"
#include "devices/storage/atapi_cdrom.hpp"
#include "devices/storage/image/disk_queue.hpp"
#include "devices/storage/image/memory_image_test.hpp"

namespace viv {

/// What hangs on the ports of the controller that make_ahci_with() makes: disks, and in the end a CD-ROM drive.
struct AhciDrives {
    std::vector<std::unique_ptr<MemoryImage>> disks;
    std::unique_ptr<MemoryImage> disc;
    DiskWork* work = nullptr;
};

inline Result<std::unique_ptr<Device>> make_ahci_with_drives(DeviceContext& context) {
    AhciDrives& drives = *TRY(context.need<AhciDrives>("drives for a test"));
    auto controller = std::make_unique<Ahci>(context.clock);
    uint8_t port = 0;
    for (auto& image : drives.disks) {
        auto queue = std::make_unique<DiskQueue>(std::move(image), drives.work);
        controller->attach(port, std::make_unique<AtaDisk>(controller->device_state(port), std::move(queue),
                                                           AtaDisk::Place{0, port, "VIVSATA" + std::to_string(port)},
                                                           AtaWire::serial));
        ++port;
    }
    if (drives.disc) {
        auto cdrom = std::make_unique<AtapiCdrom>(controller->device_state(port), CdromDrive::Place{0, port, "VIVSATA"},
                                                  AtaWire::serial);
        cdrom->drive().load(std::move(drives.disc));
        controller->attach(port, std::move(cdrom));
    }
    TRY(controller->pci().attach(context));
    return controller;
}

struct AhciWork {
    std::unique_ptr<DiskWork> work;
};

/// A controller with a disk of 2000 sectors on port 0, an empty place on port 1 and, when asked for, a disc of 100
/// blocks after the disks; 1 MiB of RAM; and a driver.
class AhciBoard : public AhciWork, public PciBoard {
  public:
    /// Whether commands end within an access, or are under way beside the machine.
    enum class Way { within, beside };
    struct Prd {
        uint64_t base;
        uint32_t bytes;
        bool interrupt = false;
    };
    /// The command FIS.
    struct Command {
        uint8_t opcode = 0;
        uint64_t lba = 0;
        uint16_t count = 0;
        uint16_t features = 0;
        uint8_t device = 0x40;
    };

    static constexpr uint64_t base = 0xEEB00000;
    static constexpr uint64_t lists = 0x1000, received = 0x4000, tables = 0x8000, buffer = 0x20000;
    static constexpr PciAddress at{0, 3, 0};

    explicit AhciBoard(size_t disks = 1, size_t disc_blocks = 0, Way way = Way::within) {
        if (way == Way::beside) work = std::make_unique<DiskWork>(loop, memory);
        drives_.work = work.get();
        for (size_t i = 0; i < disks; ++i) {
            auto image = std::make_unique<MemoryImage>(numbered_sectors(2000));
            images.push_back(image.get());
            drives_.disks.push_back(std::move(image));
        }
        if (disc_blocks > 0) {
            drives_.disc = std::make_unique<MemoryImage>(disc_blocks * 2048, ImageAccess::read_only);
            for (size_t i = 0; i < drives_.disc->bytes.size(); ++i) {
                drives_.disc->bytes[i] = static_cast<std::byte>(i / 2048 + i);
            }
            disc = drives_.disc.get();
        }
        services.provide(drives_);
        if (!memory.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "RAM")) FAIL("no RAM");
        make_function(make_ahci_with_drives, at.device, at.function);
        // The contract tests measured the BARs.
        set_config(at, pci::BAR0 + 20, 4, static_cast<uint32_t>(base));
        set_config(at, pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER);
        bus().pirq(PciBus::pirq_of(at, 1)).connect(wire, 0);
    }

    uint32_t reg(uint64_t offset) { return static_cast<uint32_t>(memory_bus.read(base + offset, 4)); }
    void set(uint64_t offset, uint32_t value) { memory_bus.write(base + offset, 4, value); }
    uint32_t port_reg(unsigned port, uint64_t offset) { return reg(0x100 + port * 0x80 + offset); }
    void set_port(unsigned port, uint64_t offset, uint32_t value) { set(0x100 + port * 0x80 + offset, value); }

    /// As a driver starts a port: addresses, spin-up, the port's errors away, everything interrupts.
    void start(unsigned port = 0) {
        set_port(port, ahci::PxCLB, static_cast<uint32_t>(lists + port * 0x400));
        set_port(port, ahci::PxFB, static_cast<uint32_t>(received + port * 0x100));
        set_port(port, ahci::PxCMD, ahci::SUD | ahci::FRE);
        set_port(port, ahci::PxSERR, 0xFFFFFFFF);
        set_port(port, ahci::PxIS, 0xFFFFFFFF);
        set_port(port, ahci::PxIE, 0xFFFFFFFF);
        set_port(port, ahci::PxCMD, ahci::SUD | ahci::FRE | ahci::ST);
        set(ahci::IS, 0xFFFFFFFF);
        set(ahci::GHC, ahci::GHC_IE);
    }
    /// Clears what interrupts, as a handler does; what the port said.
    uint32_t acknowledge(unsigned port = 0) {
        const uint32_t said = port_reg(port, ahci::PxIS);
        set_port(port, ahci::PxIS, said);
        set(ahci::IS, 1u << port);
        return said;
    }
    /// ST off and on, as after an error.
    void restart(unsigned port = 0) {
        set_port(port, ahci::PxCMD, ahci::SUD | ahci::FRE);
        acknowledge(port);
        set_port(port, ahci::PxCMD, ahci::SUD | ahci::FRE | ahci::ST);
    }

    [[nodiscard]] static uint64_t table_of(unsigned slot) { return tables + slot * 0x200; }
    /// Puts a command into a slot without issuing it.
    void prepare(unsigned slot, const Command& command, const std::vector<Prd>& list = {}, uint32_t flags = 0,
                 unsigned port = 0) {
        std::array<uint8_t, 20> fis{0x27, 0x80, command.opcode, static_cast<uint8_t>(command.features)};
        for (size_t i = 0; i < 3; ++i) {
            fis[4 + i] = static_cast<uint8_t>(command.lba >> (8 * i));
            fis[8 + i] = static_cast<uint8_t>(command.lba >> (24 + 8 * i));
        }
        fis[7] = command.device;
        fis[11] = static_cast<uint8_t>(command.features >> 8);
        fis[12] = static_cast<uint8_t>(command.count);
        fis[13] = static_cast<uint8_t>(command.count >> 8);
        prepare_fis(slot, fis, list, flags, port);
    }
    void prepare_fis(unsigned slot, std::span<const uint8_t> fis, const std::vector<Prd>& list, uint32_t flags = 0,
                     unsigned port = 0) {
        const uint64_t header = lists + port * 0x400 + slot * 32;
        memory.store(Gpa{header}, static_cast<uint32_t>(5 | flags | list.size() << 16));
        memory.store(Gpa{header + 4}, uint32_t{0});
        memory.store(Gpa{header + 8}, table_of(slot));
        memory.write(Gpa{table_of(slot)}, std::as_bytes(fis));
        for (size_t i = 0; i < list.size(); ++i) {
            const uint64_t entry = table_of(slot) + 0x80 + 16 * i;
            memory.store(Gpa{entry}, list[i].base);
            memory.store(Gpa{entry + 12}, (list[i].bytes - 1) | (list[i].interrupt ? 1u << 31 : 0));
        }
    }
    void issue(uint32_t slots, unsigned port = 0) { set_port(port, ahci::PxCI, slots); }
    /// Prepares, issues and, for the drive is always done at once, says what the port then says.
    uint32_t run(const Command& command, const std::vector<Prd>& list = {}, unsigned port = 0, uint32_t flags = 0) {
        prepare(0, command, list, flags, port);
        issue(1, port);
        return acknowledge(port);
    }
    uint32_t transferred(unsigned slot, unsigned port = 0) {
        return memory.load<uint32_t>(Gpa{lists + port * 0x400 + slot * 32 + 4});
    }
    /// A command packet in the slot's table.
    void put_packet(unsigned slot, std::array<uint8_t, 12> packet) {
        memory.write(Gpa{table_of(slot) + 0x40}, std::as_bytes(std::span(packet)));
    }
    uint32_t packet(std::array<uint8_t, 12> bytes, const std::vector<Prd>& list, unsigned port, uint8_t features = 1) {
        put_packet(0, bytes);
        return run({.opcode = 0xA0, .lba = 0xFFFE00, .features = features, .device = 0}, list, port,
                   ahci::header_packet);
    }

    std::vector<uint8_t> bytes_at(uint64_t address, size_t size) {
        std::vector<uint8_t> got(size);
        memory.read(Gpa{address}, std::as_writable_bytes(std::span(got)));
        return got;
    }
    std::vector<uint8_t> fis(uint64_t offset, size_t size, unsigned port = 0) {
        return bytes_at(received + port * 0x100 + offset, size);
    }
    /// Whether memory has these sectors of a disk.
    bool has_sectors(uint64_t address, size_t first, size_t count, size_t disk = 0) {
        const auto got = bytes_at(address, count * 512);
        return std::memcmp(got.data(), images[disk]->bytes.data() + first * 512, got.size()) == 0;
    }
    std::vector<uint16_t> identify(unsigned port = 0, uint8_t opcode = 0xEC) {
        run({.opcode = opcode}, {{buffer, 512}}, port);
        std::vector<uint16_t> words(256);
        memory.read(Gpa{buffer}, std::as_writable_bytes(std::span(words)));
        return words;
    }
    [[nodiscard]] uint32_t status(unsigned port = 0) { return port_reg(port, ahci::PxTFD); }

    Wire& wire = new_wire();
    std::vector<MemoryImage*> images;
    MemoryImage* disc = nullptr;

  private:
    AhciDrives drives_;
};

}  // namespace viv
