// Models: an ATA/ATAPI-6 hard disk with programmed I/O and DMA: CHS, LBA28, LBA48, MULTIPLE, power modes, write cache,
//   TRIM of ACS-2; on a serial wire also queued commands, FUA, logs and SMART
// Not modelled: self-tests, security, host protected area, seek and spin-up times; see docs/devices/storage.md
// Ignored bits: device register 7 and 5, features of commands that define none, the retry bit of opcodes, priorities
// Reference: ANSI INCITS 361-2002 (ATA/ATAPI-6), sections 6 and 8; ANSI X3.221 (ATA) for the obsolete commands; INCITS
//   482-2012 (ACS-2) for TRIM and, with Serial ATA 2.6, on a serial wire
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

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
    AtaDisk(AtaDeviceState& state, std::unique_ptr<DiskImage> image, Place place, AtaWire wire = AtaWire::parallel);
    AtaDisk(AtaDeviceState& state, std::unique_ptr<DiskQueue> image, Place place, AtaWire wire = AtaWire::parallel);
    ~AtaDisk() override;

    [[nodiscard]] DriveKind drive_kind() const override { return DriveKind::disk; }
    [[nodiscard]] DiskImage* medium() override;
    [[nodiscard]] DriveGeometry geometry() const override { return geometry_.native; }
    [[nodiscard]] DriveGeometry bios_geometry() const override { return geometry_.bios; }
    [[nodiscard]] uint16_t io_base() const override { return place_.io_base; }
    [[nodiscard]] uint8_t unit() const override { return place_.unit; }

    /// The most sectors that SET MULTIPLE MODE takes.
    static constexpr uint8_t max_multiple = 16;
    /// The most blocks of 64 ranges that DATA SET MANAGEMENT takes.
    static constexpr uint32_t max_trim_blocks = 8;
    [[nodiscard]] std::optional<uint8_t> queued_tag() const override;
    [[nodiscard]] DiskQueue* queue() const override;
    [[nodiscard]] std::optional<AtaTransfer> transfer_of(uint8_t command) const override;
    void begin_transfer(uint8_t command) override;
    void end_transfer(uint8_t command, DiskStatus status) override;

  protected:
    void execute(uint8_t command) override;
    void block_taken() override;
    void block_given() override;
    [[nodiscard]] std::array<uint8_t, 2> signature() const override { return {0, 0}; }
    void command_failed() override;

  private:
    enum class Addressing { short_form, extended, queued };

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
    /// The commands of a serial wire; false when it is none of these, or the wire is parallel.
    bool execute_serial(uint8_t command);
    void start_queued(uint8_t command);
    void read_log(Transfer transfer);
    [[nodiscard]] std::vector<uint8_t> log_page(uint8_t log) const;
    void smart();
    void smart_data();
    void start_trim();
    void trim();
    void identify_serial(std::array<uint16_t, 256>& words) const;

    /// Takes address and count out of the registers; false, and the command has failed, when the disk has no such
    /// place.
    bool take_address(Addressing addressing);
    void fetch_block();
    void report_place(uint64_t lba, uint32_t count);
    void fail_at(uint64_t lba, DiskStatus status);
    [[nodiscard]] DriveGeometry translation() const;

    std::unique_ptr<DiskQueue> image_;
    Place place_;
    uint64_t sectors_;
    DiskGeometry geometry_;
};

}  // namespace viv
