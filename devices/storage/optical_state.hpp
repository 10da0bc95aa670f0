#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace viv {

/// All of a CD-ROM drive's command set that a guest can change. The medium is not part of it.
struct OpticalState {
    enum class MediaEvent : uint8_t { none, eject_request, new_medium, medium_removed };
    enum class Transfer : uint8_t { none, response, frames, parameters };

    // Sense data of the last command, and what is to be reported before the next one.
    uint8_t sense_key = 0;
    uint8_t sense_code = 0;
    uint8_t sense_qualifier = 0;
    bool sense_has_address = false;
    uint32_t sense_address = 0;
    bool reset_attention = true;
    bool medium_attention = false;
    MediaEvent event = MediaEvent::none;

    bool locked = false;
    bool tray_open = false;
    bool changed_for_firmware = false;  // INT 13h's own latch
    uint32_t position = 0;              // the block after the last one read
    uint16_t speed = 0;                 // kilobytes a second; 0: the fastest

    // Mode pages 01h, 0Dh and 0Eh behind their two header bytes.
    std::array<uint8_t, 10> error_recovery{0, 5};
    std::array<uint8_t, 6> device_parameters{0, 0x0D, 0, 60, 0, 75};
    std::array<uint8_t, 14> audio_control{0x04, 0, 0, 0, 0, 0, 0x01, 0xFF, 0x02, 0xFF};

    // The data of the command that runs.
    Transfer transfer = Transfer::none;
    std::vector<uint8_t> data;  // of a response or of parameters
    uint64_t length = 0;        // bytes to move
    uint64_t done = 0;          // bytes moved
    uint32_t first_block = 0;   // of frames
    uint8_t frame_parts = 0;    // READ CD byte 9: what of each frame; 10h is the 2048 bytes of user data
    uint8_t opcode = 0;

    static void fields(auto& self, auto&& visit) {
        visit("sense-key", self.sense_key);
        visit("sense-code", self.sense_code);
        visit("sense-qualifier", self.sense_qualifier);
        visit("sense-has-address", self.sense_has_address);
        visit("sense-address", self.sense_address);
        visit("reset-attention", self.reset_attention);
        visit("medium-attention", self.medium_attention);
        visit("event", self.event);
        visit("locked", self.locked);
        visit("tray-open", self.tray_open);
        visit("changed-for-firmware", self.changed_for_firmware);
        visit("position", self.position);
        visit("speed", self.speed);
        visit("error-recovery", self.error_recovery);
        visit("device-parameters", self.device_parameters);
        visit("audio-control", self.audio_control);
        visit("transfer", self.transfer);
        visit("data", self.data);
        visit("length", self.length);
        visit("done", self.done);
        visit("first-block", self.first_block);
        visit("frame-parts", self.frame_parts);
        visit("opcode", self.opcode);
    }
    bool operator==(const OpticalState&) const = default;
};

}  // namespace viv
