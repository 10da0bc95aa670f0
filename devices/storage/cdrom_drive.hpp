// Models: an MMC CD-ROM/DVD-ROM drive with a tray that the guest can lock: one data track, raw frames, media events
// Not modelled: audio, sub-channels other than Q's position, multisession, writing, spin-up and seek times
// Ignored bits: IMMED, power conditions, RELADR, FUA and DPO, the persistent bit of PREVENT ALLOW MEDIUM REMOVAL
// Reference: INCITS 430-2007 (MMC-5); SFF-8020i 2.6; INCITS 351-2001 (SPC-2) for the general commands
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "devices/storage/drive_registry.hpp"
#include "devices/storage/optical_state.hpp"

namespace viv {

/// The drive and its command set, whatever wire the commands come over: the wire calls execute(), moves the data, and
/// asks for the sense key when a command has failed.
class CdromDrive final : public Drive {
  public:
    /// Where the drive hangs, and what it calls itself.
    struct Place {
        uint16_t io_base = 0;
        uint8_t unit = 0;
        std::string serial;
    };
    CdromDrive(OpticalState& state, Place place) : state_(state), place_(std::move(place)) {}

    [[nodiscard]] DriveKind drive_kind() const override { return DriveKind::cdrom; }
    [[nodiscard]] DiskImage* medium() override { return state_.tray_open ? nullptr : image_.get(); }
    [[nodiscard]] DriveGeometry geometry() const override { return {}; }
    [[nodiscard]] uint32_t block_size() const override { return 2048; }
    [[nodiscard]] bool removable() const override { return true; }
    [[nodiscard]] uint16_t io_base() const override { return place_.io_base; }
    [[nodiscard]] uint8_t unit() const override { return place_.unit; }
    [[nodiscard]] bool medium_changed() const override { return state_.changed_for_firmware; }
    void acknowledge_medium_change() override { state_.changed_for_firmware = false; }
    Result<void> insert(std::unique_ptr<DiskImage> image) override;
    Result<void> eject() override;
    [[nodiscard]] bool locked() const override { return state_.locked; }
    bool set_locked(bool locked) override;
    bool open_tray() override;

    /// Puts the first medium in, before the machine runs: that is no change.
    void load(std::unique_ptr<DiskImage> image);

    /// What comes after a command, or after a piece of its data.
    enum class Outcome {
        done,
        data_in,   // remaining() bytes wait in give()
        data_out,  // remaining() bytes are wanted by take()
        failed,    // sense_key() says how
    };
    /// Obeys a command packet.
    Outcome execute(std::span<const uint8_t, 12> packet);
    [[nodiscard]] uint64_t remaining() const { return state_.length - state_.done; }
    /// The next out.size() bytes of the data, at most remaining(). False, and the command has failed, when the medium
    /// does not give them.
    bool give(std::span<uint8_t> out);
    /// The next bytes of the parameters, at most remaining(); the last ones are obeyed.
    Outcome take(std::span<const uint8_t> in);
    /// Ends a transfer before its end: a reset, or a wire that moves no more.
    void abandon_transfer();
    [[nodiscard]] uint8_t sense_key() const { return state_.sense_key; }
    /// Power-on, bus reset or DEVICE RESET. Tray and medium stay as they are.
    void reset();
    [[nodiscard]] const Place& place() const { return place_; }

    /// Refuses a saved state that a drive could not have had.
    [[nodiscard]] static Result<void> validate(const OpticalState& staged);

  private:
    using Packet = std::span<const uint8_t, 12>;
    using Bytes = std::vector<uint8_t>;
    /// Key, code and qualifier (SPC-2, table 108; MMC-5, annex F).
    enum class Sense : uint32_t {
        none = 0,
        no_medium = 0x023A01,
        no_medium_tray_open = 0x023A02,
        read_error = 0x031100,
        parameter_length = 0x051A00,
        unknown_command = 0x052000,
        address_out_of_range = 0x052100,
        bad_field = 0x052400,
        bad_parameter = 0x052600,
        incompatible_medium = 0x053002,
        no_saved_pages = 0x053900,
        removal_prevented = 0x055302,
        wrong_track_mode = 0x056400,
        medium_changed = 0x062800,
        power_on = 0x062900,
    };

    void set_sense(Sense sense);
    [[nodiscard]] Sense take_attention();
    Outcome run(Packet packet);
    Outcome run_on_medium(Packet packet);
    Outcome fail_with(Sense sense);
    Outcome respond(Bytes data, size_t allocation);

    [[nodiscard]] uint32_t blocks() const;
    [[nodiscard]] bool is_dvd() const;

    Outcome request_sense(Packet packet);
    Outcome inquiry(Packet packet);
    Outcome vital_product_data(uint8_t page, size_t allocation);
    Outcome start_stop(Packet packet);
    Outcome prevent_removal(Packet packet);
    Outcome read(Packet packet, uint32_t count);
    Outcome read_frames(uint32_t first, uint32_t count, uint8_t sector_type, uint8_t parts, uint8_t subchannel);
    Outcome read_cd(Packet packet);
    Outcome read_cd_msf(Packet packet);
    Outcome check_range(Packet packet, uint32_t count);
    Outcome read_capacity();
    Outcome read_header(Packet packet);
    Outcome read_toc(Packet packet);
    Outcome read_sub_channel(Packet packet);
    Outcome read_disc_information(Packet packet);
    Outcome read_track_information(Packet packet);
    Outcome get_configuration(Packet packet);
    Outcome get_event_status(Packet packet);
    Outcome mode_sense(Packet packet, bool short_form);
    Outcome start_mode_select(Packet packet, bool short_form);
    Outcome finish_mode_select();
    Outcome mechanism_status(Packet packet);
    Outcome set_speed(Packet packet);
    Outcome read_dvd_structure(Packet packet);
    bool put_mode_page(Bytes& out, uint8_t page, uint8_t control) const;
    [[nodiscard]] std::span<uint8_t> changeable_page(uint8_t page);
    void set_mode_page(uint8_t number, std::span<uint8_t> page, std::span<const uint8_t> wanted);
    bool read_plain(uint64_t offset, std::span<uint8_t> out);
    bool read_composed(uint64_t offset, std::span<uint8_t> out);
    bool fail_medium(uint32_t block);

    OpticalState& state_;
    Place place_;
    std::unique_ptr<DiskImage> image_;
};

}  // namespace viv
