#pragma once

#include <cstdint>

/// Numbers that all virtio devices share (Virtual I/O Device 1.2, sections 2 and 6).
namespace viv::virtio {

// Device status (2.1)
constexpr uint8_t ACKNOWLEDGE = 0x01;
constexpr uint8_t DRIVER = 0x02;
constexpr uint8_t DRIVER_OK = 0x04;
constexpr uint8_t FEATURES_OK = 0x08;
constexpr uint8_t DEVICE_NEEDS_RESET = 0x40;
constexpr uint8_t FAILED = 0x80;

// ISR status (4.1.4.5)
constexpr uint8_t ISR_QUEUE = 0x01;
constexpr uint8_t ISR_CONFIGURATION = 0x02;

constexpr uint64_t feature(unsigned bit) {
    return uint64_t{1} << bit;
}
// Reserved feature bits (6)
constexpr uint64_t ANY_LAYOUT = feature(27);  // legacy only
constexpr uint64_t INDIRECT_DESC = feature(28);
constexpr uint64_t EVENT_IDX = feature(29);
constexpr uint64_t VERSION_1 = feature(32);
constexpr uint64_t RING_PACKED = feature(34);
constexpr uint64_t IN_ORDER = feature(35);
constexpr uint64_t RING_RESET = feature(40);

/// What every device here offers, whatever it is.
constexpr uint64_t queue_features = INDIRECT_DESC | EVENT_IDX | VERSION_1 | RING_PACKED | IN_ORDER | RING_RESET;

/// No vector of MSI-X (4.1.5.1.2).
constexpr uint16_t NO_VECTOR = 0xFFFF;

// Descriptor flags (2.7.5, 2.8.1)
constexpr uint16_t DESC_NEXT = 0x0001;
constexpr uint16_t DESC_WRITE = 0x0002;
constexpr uint16_t DESC_INDIRECT = 0x0004;
constexpr uint16_t DESC_AVAIL = 0x0080;  // packed
constexpr uint16_t DESC_USED = 0x8000;   // packed

// Available ring flags (2.7.6) and driver event suppression (2.8.10)
constexpr uint16_t AVAIL_NO_INTERRUPT = 0x0001;
constexpr uint16_t EVENT_DISABLE = 0x1;
constexpr uint16_t EVENT_DESC = 0x2;

// Device IDs (5)
enum class DeviceId : uint16_t {
    net = 1,
    block = 2,
    console = 3,
    entropy = 4,
    balloon = 5,
    p9 = 9,
    input = 18,
    socket = 19
};

}  // namespace viv::virtio
