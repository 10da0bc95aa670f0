#include "devices/storage/atapi_cdrom.hpp"

#include <algorithm>
#include <utility>

#include "devices/storage/ata_identity.hpp"

namespace viv {
namespace {

using Packet = AtaDeviceState::Packet;
using Power = AtaDeviceState::Power;

/// ATA/ATAPI-6, table 14.
enum class Command : uint8_t {
    nop = 0x00,
    device_reset = 0x08,
    read_sectors = 0x20,
    execute_diagnostic = 0x90,
    packet = 0xA0,
    identify_packet = 0xA1,
    standby_immediate = 0xE0,
    idle_immediate = 0xE1,
    standby = 0xE2,
    idle = 0xE3,
    check_power = 0xE5,
    sleep = 0xE6,
    flush_cache = 0xE7,
    identify = 0xEC,
    set_features = 0xEF,
};

// The interrupt reason, which packet devices have in place of the sector count (ATA/ATAPI-6, 7.11.5).
constexpr uint8_t reason_command = 0x01;
constexpr uint8_t reason_to_host = 0x02;
constexpr uint8_t feature_dma = 0x01, feature_overlap = 0x02;
constexpr uint16_t most_bytes = 0xFFFE;

}  // namespace

bool AtapiCdrom::wakes_up(uint8_t command) const {
    return command == std::to_underlying(Command::device_reset);
}

void AtapiCdrom::execute(uint8_t command) {
    drive_.abandon_transfer();
    state_.packet = Packet::none;
    switch (static_cast<Command>(command)) {
        case Command::device_reset: return device_reset();
        case Command::packet: return start_packet();
        case Command::identify_packet: return identify();
        case Command::read_sectors:
        case Command::identify: return abort_with_signature();
        case Command::set_features: return set_features();
        case Command::flush_cache: return finish();
        case Command::check_power:
            state_.task.count = state_.power == Power::standby ? 0x00 : state_.power == Power::idle ? 0x80 : 0xFF;
            return finish();
        case Command::standby:
        case Command::standby_immediate: return set_power(Power::standby);
        case Command::idle:
        case Command::idle_immediate: return set_power(Power::idle);
        case Command::sleep: return set_power(Power::sleep);
        case Command::nop:
        case Command::execute_diagnostic: break;  // the channel has both drives do it
    }
    abort();
}

// ---- What is not a packet ------------------------------------------------------------------------------------------

/// ATA/ATAPI-6, 8.16.4 and 8.27.4: how a driver that takes it for a disk learns what it is.
void AtapiCdrom::abort_with_signature() {
    const uint8_t device = state_.device;
    set_signature();
    state_.device = device & ata::device_select;
    abort();
}

void AtapiCdrom::device_reset() {
    const uint8_t device = state_.device;
    drive_.reset();
    state_.power = Power::active;
    diagnose();
    state_.device = device & ata::device_select;
}

void AtapiCdrom::software_reset() {
    drive_.abandon_transfer();
    AtaDevice::software_reset();
}

void AtapiCdrom::hardware_reset(const AtaDeviceState& before) {
    state_.optical.tray_open = before.optical.tray_open;
    state_.optical.changed_for_firmware = before.optical.changed_for_firmware;
    state_.optical.medium_attention = before.optical.medium_attention;
    state_.optical.event = before.optical.event;
    diagnose();
}

void AtapiCdrom::set_power(Power power) {
    finish();
    state_.power = power;
}

void AtapiCdrom::set_features() {
    enum class Feature : uint8_t { set_transfer_mode = 0x03, keep_over_reset = 0x66, revert_at_reset = 0xCC };
    switch (static_cast<Feature>(state_.task.features)) {
        case Feature::set_transfer_mode: {
            if (!set_transfer_mode()) return abort();
            break;
        }
        case Feature::keep_over_reset: state_.keep_over_reset = true; break;
        case Feature::revert_at_reset: state_.keep_over_reset = false; break;
        default: return abort();
    }
    finish();
}

/// ATA/ATAPI-6, 8.16.
void AtapiCdrom::identify() {
    AtaIdentity identity;
    auto& words = identity.words;
    words[0] = 0x85C0;  // ATAPI CD-ROM, removable, asks for the packet within 50 us without INTRQ, 12 bytes
    identity.put_text(10, 10, drive_.place().serial);
    identity.put_text(23, 4, "1.0");
    identity.put_text(27, 20, "Vivarium CD-ROM");
    words[49] = 0x0B00;  // IORDY, LBA, DMA
    words[50] = 0x4000;
    words[51] = 0x0200;
    words[53] = 0x0006;  // words 64-70 and 88 are valid
    words[63] = multiword_modes();
    words[64] = 0x0003;  // PIO modes 3 and 4
    words[65] = words[66] = 120;
    words[67] = words[68] = 120;
    if (serial()) words[76] = 0x0006;  // 1.5 and 3 Gb/s
    words[80] = 0x007E;
    words[82] = 0x4218;  // NOP, DEVICE RESET, PACKET, power management
    words[83] = 0x4000;
    words[84] = 0x4000;
    words[85] = 0x4218;
    words[87] = 0x4000;
    words[88] = ultra_modes();
    identity.write_to(state_.buffer);
    offer_block();
}

// ---- PACKET (ATA/ATAPI-6, 9.8) -------------------------------------------------------------------------------------

void AtapiCdrom::start_packet() {
    if ((state_.task.features & feature_overlap) != 0) return abort();
    const auto wanted = static_cast<uint16_t>(state_.task.lba_mid | state_.task.lba_high << 8);
    // An odd limit is the even one below; none is as good as the highest.
    state_.byte_limit = wanted == 0 ? most_bytes : std::max<uint16_t>(wanted & most_bytes, 2);
    state_.packet_dma = (state_.task.features & feature_dma) != 0;
    if (state_.packet_dma) state_.byte_limit = most_bytes;
    state_.power = Power::active;
    state_.packet = Packet::command;
    state_.task.count = reason_command;
    ask_for_block(packet_size);
}

void AtapiCdrom::block_given() {
    if (state_.packet == Packet::command && state_.buffer.size() == packet_size) {
        std::array<uint8_t, packet_size> packet{};
        std::copy_n(state_.buffer.begin(), packet_size, packet.begin());
        return go_on(drive_.execute(packet));
    }
    if (state_.packet == Packet::data_out && state_.buffer.size() <= drive_.remaining()) {
        return go_on(drive_.take(state_.buffer));
    }
    fail_packet();
}

void AtapiCdrom::block_taken() {
    if (state_.packet != Packet::data_in) return finish_data_in();  // IDENTIFY PACKET DEVICE
    if (drive_.remaining() > 0) return offer_data();
    finish_packet();
}

void AtapiCdrom::go_on(CdromDrive::Outcome outcome) {
    switch (outcome) {
        case CdromDrive::Outcome::done: return finish_packet();
        case CdromDrive::Outcome::data_in: return offer_data();
        case CdromDrive::Outcome::data_out: return ask_for_data();
        case CdromDrive::Outcome::failed: return fail_packet();
    }
}

void AtapiCdrom::set_byte_count(size_t bytes) {
    state_.task.lba_mid = static_cast<uint8_t>(bytes);
    state_.task.lba_high = static_cast<uint8_t>(bytes >> 8);
}

void AtapiCdrom::offer_data() {
    const auto bytes = static_cast<size_t>(std::min<uint64_t>(drive_.remaining(), state_.byte_limit));
    state_.buffer.resize(bytes);
    if (!drive_.give(state_.buffer)) return fail_packet();
    state_.packet = Packet::data_in;
    state_.task.count = reason_to_host;
    set_byte_count(bytes);
    state_.dma = state_.packet_dma;
    offer_block();
}

void AtapiCdrom::ask_for_data() {
    const auto bytes = static_cast<size_t>(std::min<uint64_t>(drive_.remaining(), state_.byte_limit));
    state_.packet = Packet::data_out;
    state_.task.count = 0;
    set_byte_count(bytes);
    state_.dma = state_.packet_dma;
    ask_for_block(bytes);
    state_.interrupt = !state_.dma;
}

void AtapiCdrom::finish_packet() {
    state_.packet = Packet::none;
    state_.task.count = reason_command | reason_to_host;
    finish();
}

void AtapiCdrom::fail_packet() {
    drive_.abandon_transfer();
    state_.packet = Packet::none;
    state_.task.count = reason_command | reason_to_host;
    fail_command(static_cast<uint8_t>(drive_.sense_key() << 4 | ata::error_abort));
}

}  // namespace viv
