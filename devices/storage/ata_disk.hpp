// Models: an ATA/ATAPI-6 hard disk with programmed I/O and DMA: CHS, LBA28, LBA48, MULTIPLE, power modes, write cache
// Not modelled: queued DMA, SMART, security, host protected area, seek and spin-up times; see docs/devices/storage.md
// Ignored bits: device register 7 and 5, features of commands that define none, the retry bit of opcodes
// Reference: ANSI INCITS 361-2002 (ATA/ATAPI-6), sections 6 and 8; ANSI X3.221 (ATA) for the obsolete commands
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "devices/storage/ata_device.hpp"
#include "devices/storage/disk_geometry.hpp"
#include "devices/storage/drive_registry.hpp"

namespace viv {

class AtaDisk final : public AtaDevice, public Drive {
  public:
    /// Where the disk hangs, and what it calls itself.
    struct Place {
        uint16_t io_base = 0;
        uint8_t unit = 0;
        std::string serial;
    };
    AtaDisk(AtaDeviceState& state, std::unique_ptr<DiskImage> image, Place place);

    [[nodiscard]] DriveKind drive_kind() const override { return DriveKind::disk; }
    [[nodiscard]] DiskImage* medium() override { return image_.get(); }
    [[nodiscard]] DriveGeometry geometry() const override { return default_geometry_; }
    [[nodiscard]] DriveGeometry bios_geometry() const override { return bios_geometry_; }
    [[nodiscard]] uint16_t io_base() const override { return place_.io_base; }
    [[nodiscard]] uint8_t unit() const override { return place_.unit; }

    /// The most sectors that SET MULTIPLE MODE takes.
    static constexpr uint8_t max_multiple = 16;

  protected:
    void execute(uint8_t command) override;
    void block_taken() override;
    void block_given() override;
    [[nodiscard]] std::array<uint8_t, 2> signature() const override { return {0, 0}; }

  private:
    enum class Addressing { short_form, extended };

    enum class Transfer { programmed, dma };
    void start_read(Addressing addressing, unsigned sectors_per_block, Transfer transfer = Transfer::programmed);
    void start_write(Addressing addressing, unsigned sectors_per_block, Transfer transfer = Transfer::programmed);
    void verify(Addressing addressing);
    void identify();
    void initialize_parameters();
    void set_multiple();
    void set_features();
    void read_native_max(Addressing addressing);
    void check_power();
    void set_power(AtaDeviceState::Power power);
    void flush();

    /// Takes address and count out of the registers; false, and the command has failed, when the disk has no such
    /// place.
    bool take_address(Addressing addressing);
    void fetch_block();
    void report_place(uint64_t lba, uint32_t count);
    void fail_at(uint64_t lba, DiskStatus status);
    [[nodiscard]] DriveGeometry translation() const;

    std::unique_ptr<DiskImage> image_;
    Place place_;
    uint64_t sectors_;
    DriveGeometry default_geometry_;
    DriveGeometry bios_geometry_;
};

}  // namespace viv
