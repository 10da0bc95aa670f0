#pragma once

#include <cstdint>

/// Registers of an AHCI controller, by the names and offsets of the specification (AHCI 1.3.1, chapter 3).
namespace viv::ahci {

inline constexpr unsigned port_count = 6;
inline constexpr unsigned slot_count = 32;
inline constexpr uint64_t window_size = 0x800;
inline constexpr uint64_t first_port = 0x100, port_span = 0x80;

// ---- The controller ------------------------------------------------------------------------------------------------

enum Register : uint16_t { CAP = 0x00, GHC = 0x04, IS = 0x08, PI = 0x0C, VS = 0x10 };

/// 64-bit addresses, queued commands, staggered spin-up, CLO, 3 Gb/s, AHCI only, several DRQ blocks a command, 32
/// slots, 6 ports.
inline constexpr uint32_t capabilities = 0xC9249F05;
inline constexpr uint32_t all_ports = (1u << port_count) - 1;
inline constexpr uint32_t version = 0x00010301;
inline constexpr uint32_t GHC_HR = 1u << 0, GHC_IE = 1u << 1, GHC_AE = 1u << 31;

// ---- A port --------------------------------------------------------------------------------------------------------

enum PortRegister : uint8_t {
    PxCLB = 0x00,
    PxCLBU = 0x04,
    PxFB = 0x08,
    PxFBU = 0x0C,
    PxIS = 0x10,
    PxIE = 0x14,
    PxCMD = 0x18,
    PxTFD = 0x20,
    PxSIG = 0x24,
    PxSSTS = 0x28,
    PxSCTL = 0x2C,
    PxSERR = 0x30,
    PxSACT = 0x34,
    PxCI = 0x38,
};

// PxIS and PxIE
inline constexpr uint32_t DHRS = 1u << 0, PSS = 1u << 1, DSS = 1u << 2, SDBS = 1u << 3, DPS = 1u << 5, PCS = 1u << 6;
inline constexpr uint32_t PRCS = 1u << 22, OFS = 1u << 24, IFS = 1u << 27, HBDS = 1u << 28, HBFS = 1u << 29;
inline constexpr uint32_t TFES = 1u << 30;
inline constexpr uint32_t port_interrupts = 0xFDC000FF;
/// UFS, PCS and PRCS show bits of PxSERR and are cleared there.
inline constexpr uint32_t clearable_interrupts = port_interrupts & ~(1u << 4 | PCS | PRCS);

// PxCMD
inline constexpr uint32_t ST = 1u << 0, SUD = 1u << 1, POD = 1u << 2, CLO = 1u << 3, FRE = 1u << 4;
inline constexpr uint32_t FR = 1u << 14, CR = 1u << 15, ATAPI = 1u << 24, DLAE = 1u << 25;
inline constexpr uint32_t writable_command = ST | SUD | FRE | ATAPI | DLAE;
inline constexpr unsigned current_slot_shift = 8;

// PxSCTL and PxSSTS
inline constexpr uint32_t DET = 0xF, DET_reset = 1, DET_offline = 4, SPD_limit = 0xF0, writable_control = 0xFFF;
inline constexpr uint32_t DET_established = 3, IPM_active = 1u << 8;

// PxSERR
inline constexpr uint32_t DIAG_N = 1u << 16, DIAG_X = 1u << 26;

/// PxTFD and PxSIG without a drive.
inline constexpr uint32_t no_task_file = 0x7F, no_signature = 0xFFFFFFFF;

// ---- In memory -----------------------------------------------------------------------------------------------------

inline constexpr unsigned header_size = 32;
inline constexpr uint32_t header_packet = 1u << 5;  // A
inline constexpr uint32_t prd_interrupt = 1u << 31;
inline constexpr uint64_t packet_at = 0x40, prdt_at = 0x80, prd_size = 16;
/// Where received FISes go.
inline constexpr uint64_t dma_setup_at = 0x00, pio_setup_at = 0x20, register_at = 0x40, device_bits_at = 0x58;

/// Types of FISes (Serial ATA 2.6, 10.3).
enum class FisType : uint8_t {
    host_to_device = 0x27,
    device_to_host = 0x34,
    dma_setup = 0x41,
    pio_setup = 0x5F,
    set_device_bits = 0xA1,
};

}  // namespace viv::ahci
