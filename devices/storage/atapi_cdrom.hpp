// Models: an ATA/ATAPI-6 packet device, a CD-ROM drive: PACKET with programmed I/O, signature, DEVICE RESET, power
// modes Not modelled: DMA, overlap and queueing, the media status notification feature set Ignored bits: device
// register 7 and 5, features of commands that define none Reference: ANSI INCITS 361-2002 (ATA/ATAPI-6), sections 8 and
// 9; SFF-8020i 2.6
#pragma once

#include "devices/storage/ata_device.hpp"
#include "devices/storage/cdrom_drive.hpp"

namespace viv {

/// The wire of a CD-ROM drive: packets in, data in blocks that the host's byte count limits. The command set is the
/// drive's; a bus master would take the data from it by give() instead of through the data port.
class AtapiCdrom final : public AtaDevice {
  public:
    AtapiCdrom(AtaDeviceState& state, CdromDrive::Place place, AtaWire wire = AtaWire::parallel)
        : AtaDevice(state, wire), drive_(state.optical, std::move(place)) {
        diagnose();
    }

    [[nodiscard]] CdromDrive& drive() { return drive_; }
    /// Zeros, so that nobody takes the signature for the absent drive's (ATA/ATAPI-6, 9.16.2).
    [[nodiscard]] uint8_t read_for_absent(AtaRegister /*at*/, bool /*high_order*/) override { return 0; }
    void software_reset() override;
    void hardware_reset(const AtaDeviceState& before) override;

    static constexpr size_t packet_size = 12;

  protected:
    void execute(uint8_t command) override;
    void block_taken() override;
    void block_given() override;
    [[nodiscard]] std::array<uint8_t, 2> signature() const override { return {0x14, 0xEB}; }
    [[nodiscard]] uint8_t reset_status() const override { return 0; }
    [[nodiscard]] bool wakes_up(uint8_t command) const override;

  private:
    void identify();
    void abort_with_signature();
    void set_features();
    void set_power(AtaDeviceState::Power power);
    void device_reset();
    void start_packet();
    void go_on(CdromDrive::Outcome outcome);
    void offer_data();
    void ask_for_data();
    void finish_packet();
    void fail_packet();
    void set_byte_count(size_t bytes);

    CdromDrive drive_;
};

}  // namespace viv
