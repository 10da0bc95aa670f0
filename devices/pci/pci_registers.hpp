#pragma once

#include <compare>
#include <cstdint>

namespace viv {

/// Where a function is. Devices are 0 to 31, functions 0 to 7.
struct PciAddress {
    uint8_t bus = 0;
    uint8_t device = 0;
    uint8_t function = 0;
    constexpr auto operator<=>(const PciAddress&) const = default;
};

/// The configuration header (PCI Local Bus Specification 3.0, 6.1 and 6.2; PCI-to-PCI Bridge Architecture 1.2, 3.2).
namespace pci {

enum Register : uint8_t {
    VENDOR_ID = 0x00,
    DEVICE_ID = 0x02,
    COMMAND = 0x04,
    STATUS = 0x06,
    REVISION_ID = 0x08,
    CLASS_CODE = 0x09,  // interface, subclass, base class
    CACHE_LINE_SIZE = 0x0C,
    LATENCY_TIMER = 0x0D,
    HEADER_TYPE = 0x0E,
    BAR0 = 0x10,
    SUBSYSTEM_VENDOR_ID = 0x2C,
    SUBSYSTEM_ID = 0x2E,
    ROM_BAR = 0x30,
    CAPABILITIES = 0x34,
    INTERRUPT_LINE = 0x3C,
    INTERRUPT_PIN = 0x3D,
    FIRST_DEVICE_REGISTER = 0x40,
    // Bridges
    PRIMARY_BUS = 0x18,
    SECONDARY_BUS = 0x19,
    SUBORDINATE_BUS = 0x1A,
    IO_BASE = 0x1C,
    IO_LIMIT = 0x1D,
    MEMORY_BASE = 0x20,
    MEMORY_LIMIT = 0x22,
    PREFETCHABLE_BASE = 0x24,
    PREFETCHABLE_LIMIT = 0x26,
    PREFETCHABLE_BASE_HIGH = 0x28,
    PREFETCHABLE_LIMIT_HIGH = 0x2C,
    IO_BASE_HIGH = 0x30,
    IO_LIMIT_HIGH = 0x32,
    BRIDGE_ROM_BAR = 0x38,
    BRIDGE_CONTROL = 0x3E,
};

// COMMAND
constexpr uint16_t IO_SPACE = 0x0001;
constexpr uint16_t MEMORY_SPACE = 0x0002;
constexpr uint16_t BUS_MASTER = 0x0004;
constexpr uint16_t PARITY_RESPONSE = 0x0040;
constexpr uint16_t SERR = 0x0100;
constexpr uint16_t INTERRUPT_DISABLE = 0x0400;
// STATUS
constexpr uint16_t INTERRUPT_STATUS = 0x0008;
constexpr uint16_t CAPABILITIES_LIST = 0x0010;
constexpr uint16_t MEDIUM_DEVSEL = 0x0200;
constexpr uint16_t ERROR_BITS = 0xF900;  // rw1c
// HEADER_TYPE
constexpr uint8_t MULTI_FUNCTION = 0x80;
constexpr uint8_t BRIDGE_HEADER = 0x01;
// BARs
constexpr uint32_t BAR_IO = 0x1;
constexpr uint32_t BAR_64_BIT = 0x4;
constexpr uint32_t BAR_PREFETCHABLE = 0x8;
constexpr uint32_t ROM_ENABLE = 0x1;
// Capability IDs
constexpr uint8_t CAPABILITY_MSI = 0x05;
constexpr uint8_t CAPABILITY_MSI_X = 0x11;

constexpr unsigned config_size = 256;

}  // namespace pci
}  // namespace viv
