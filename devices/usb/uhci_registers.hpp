#pragma once

#include <cstdint>

/// Registers and structures of UHCI (Universal Host Controller Interface Design Guide 1.1, chapters 2 and 3).
namespace viv::uhci {

inline constexpr unsigned port_count = 2;
inline constexpr uint32_t window_size = 32;

enum Register : uint8_t {
    USBCMD = 0x00,     // rw
    USBSTS = 0x02,     // rw1c
    USBINTR = 0x04,    // rw
    FRNUM = 0x06,      // rw
    FLBASEADD = 0x08,  // rw  32 bits
    SOFMOD = 0x0C,     // rw  8 bits
    PORTSC1 = 0x10,    // mixed; the second port follows
};

inline constexpr uint16_t RS = 0x0001, HCRESET = 0x0002, GRESET = 0x0004, EGSM = 0x0008, FGR = 0x0010, SWDBG = 0x0020,
                          CF = 0x0040, MAXP = 0x0080;  // USBCMD
inline constexpr uint16_t USBINT = 0x0001, ERROR_INT = 0x0002, RESUME_DETECT = 0x0004, HSE = 0x0008, HCPE = 0x0010,
                          HCHALTED = 0x0020;                                            // USBSTS
inline constexpr uint16_t TOCRCE = 0x0001, RIE = 0x0002, IOCE = 0x0004, SPIE = 0x0008;  // USBINTR

// PORTSC
inline constexpr uint16_t CCS = 0x0001, CSC = 0x0002, PED = 0x0004, PEDC = 0x0008, LINE_DPLUS = 0x0010,
                          LINE_DMINUS = 0x0020, PORT_RESUME = 0x0040, ALWAYS_ONE = 0x0080, LSDA = 0x0100,
                          PORT_RESET = 0x0200, SUSPEND = 0x1000;

// Link pointers. Of the element pointer and the frame list too.
inline constexpr uint32_t LINK_TERMINATE = 1, LINK_QH = 2, LINK_DEPTH_FIRST = 4, LINK_ADDRESS = 0xFFFFFFF0;

// The second word of a transfer descriptor.
inline constexpr uint32_t ACTLEN = 0x7FF, BITSTUFF = 1u << 17, CRC_TIMEOUT = 1u << 18, NAK = 1u << 19,
                          BABBLE = 1u << 20, DATA_BUFFER = 1u << 21, STALLED = 1u << 22, ACTIVE = 1u << 23,
                          IOC = 1u << 24, IOS = 1u << 25, LS = 1u << 26, C_ERR = 3u << 27, SPD = 1u << 29;
inline constexpr uint32_t C_ERR_ONE = 1u << 27;
inline constexpr uint32_t STATUS_BITS = BITSTUFF | CRC_TIMEOUT | NAK | BABBLE | DATA_BUFFER | STALLED;

// The third.
inline constexpr uint32_t PID_IN = 0x69, PID_OUT = 0xE1, PID_SETUP = 0x2D;
inline constexpr uint32_t largest_length = 0x4FF, no_data = 0x7FF;  // MaxLen counts from 0 for one byte

// LEGSUP in configuration space
inline constexpr uint8_t SBRNUM = 0x60, LEGSUP = 0xC0;
inline constexpr uint16_t USBPIRQEN = 0x2000, USBIRQS = 0x1000;

}  // namespace viv::uhci
