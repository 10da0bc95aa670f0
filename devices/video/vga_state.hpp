#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "devices/pci/pci_function.hpp"
#include "devices/video/dispi.hpp"

namespace viv {

// Registers are numbered as in IBM's manual: SR = sequencer, CR = CRT controller, GR = graphics controller, AR =
// attribute controller.

enum class VgaPort : uint16_t {
    mono_crtc_index = 0x3B4,       // rw  when miscellaneous bit 0 is 0
    mono_crtc_data = 0x3B5,        // rw
    mono_status_1 = 0x3BA,         // r-  write: feature control
    attribute = 0x3C0,             // rw  index and data in turns; reads the index
    attribute_data = 0x3C1,        // r-
    miscellaneous_write = 0x3C2,   // -w  read: input status 0
    subsystem_enable = 0x3C3,      // rw
    sequencer_index = 0x3C4,       // rw
    sequencer_data = 0x3C5,        // rw
    dac_mask = 0x3C6,              // rw
    dac_read_index = 0x3C7,        // -w  read: DAC state
    dac_write_index = 0x3C8,       // rw
    dac_data = 0x3C9,              // rw
    feature_control_read = 0x3CA,  // r-
    miscellaneous_read = 0x3CC,    // r-
    graphics_index = 0x3CE,        // rw
    graphics_data = 0x3CF,         // rw
    colour_crtc_index = 0x3D4,     // rw  when miscellaneous bit 0 is 1
    colour_crtc_data = 0x3D5,      // rw
    colour_status_1 = 0x3DA,       // r-  write: feature control
};

enum class SR : uint8_t { reset, clocking_mode, map_mask, character_map_select, memory_mode };
inline constexpr uint8_t sr0_running = 0x03;  // neither the synchronous nor the asynchronous reset
inline constexpr uint8_t sr1_eight_dots = 0x01;
inline constexpr uint8_t sr1_half_dot_clock = 0x08;
inline constexpr uint8_t sr1_screen_off = 0x20;
inline constexpr uint8_t sr4_sequential = 0x04;  // clear: even addresses reach maps 0 and 2, odd ones 1 and 3
inline constexpr uint8_t sr4_chain_4 = 0x08;

enum class CR : uint8_t {
    horizontal_total,
    horizontal_display_end,
    start_horizontal_blanking,
    end_horizontal_blanking,
    start_horizontal_retrace,
    end_horizontal_retrace,
    vertical_total,
    overflow,
    preset_row_scan,
    maximum_scan_line,
    cursor_start,
    cursor_end,
    start_address_high,
    start_address_low,
    cursor_location_high,
    cursor_location_low,
    vertical_retrace_start,
    vertical_retrace_end,
    vertical_display_end,
    offset,
    underline_location,
    start_vertical_blanking,
    end_vertical_blanking,
    mode_control,
    line_compare,
};
inline constexpr uint8_t cr7_line_compare_8 = 0x10;
inline constexpr uint8_t cr9_double_scan = 0x80;
inline constexpr uint8_t cr0a_cursor_off = 0x20;
inline constexpr uint8_t cr11_protect = 0x80;
inline constexpr uint8_t cr14_count_by_4 = 0x20;
inline constexpr uint8_t cr14_double_word = 0x40;
inline constexpr uint8_t cr17_address_13 = 0x01;  // clear: row scan bit 0 takes the place of address bit 13 (CGA)
inline constexpr uint8_t cr17_address_14 = 0x02;  // clear: row scan bit 1 takes the place of address bit 14 (Hercules)
inline constexpr uint8_t cr17_count_by_2 = 0x08;
inline constexpr uint8_t cr17_wrap_15 = 0x20;
inline constexpr uint8_t cr17_byte_mode = 0x40;
inline constexpr uint8_t cr17_sync_enable = 0x80;

enum class GR : uint8_t {
    set_reset,
    enable_set_reset,
    colour_compare,
    data_rotate,
    read_map_select,
    graphics_mode,
    miscellaneous,
    colour_do_not_care,
    bit_mask,
};
inline constexpr uint8_t gr5_read_compare = 0x08;
inline constexpr uint8_t gr5_odd_even_read = 0x10;
inline constexpr uint8_t gr5_shift_interleaved = 0x20;
inline constexpr uint8_t gr5_shift_256 = 0x40;
inline constexpr uint8_t gr6_graphics = 0x01;
inline constexpr uint8_t gr6_chain_odd_even = 0x02;

enum class AR : uint8_t { palette_0 = 0, mode_control = 0x10, overscan, plane_enable, panning, colour_select };
inline constexpr uint8_t ar_screen_on = 0x20;  // of the index: the palette belongs to the screen, not to the CPU
inline constexpr uint8_t ar10_mono = 0x02;
inline constexpr uint8_t ar10_line_graphics = 0x04;
inline constexpr uint8_t ar10_blink = 0x08;
inline constexpr uint8_t ar10_panning_top_only = 0x20;
inline constexpr uint8_t ar10_8_bit_pixels = 0x40;
inline constexpr uint8_t ar10_colour_select_5_4 = 0x80;

inline constexpr uint8_t misc_colour_ports = 0x01;
inline constexpr uint8_t misc_memory_enable = 0x02;
inline constexpr uint8_t misc_clock_28_mhz = 0x04;

enum class DacMode : uint8_t { write = 0, read = 3 };

inline constexpr size_t vga_cells = 0x10000;

struct VgaState {
    uint8_t miscellaneous = 0;
    uint8_t feature_control = 0;
    uint8_t subsystem_enable = 0x01;
    uint8_t sequencer_index = 0;
    std::array<uint8_t, 5> sequencer{};
    uint8_t crtc_index = 0;
    std::array<uint8_t, 25> crtc{};
    uint8_t graphics_index = 0;
    std::array<uint8_t, 9> graphics{};
    uint8_t attribute_index = 0;
    bool attribute_data_next = false;  // the flip-flop of port 3C0h
    std::array<uint8_t, 21> attribute{};
    uint8_t dac_mask = 0xFF;
    DacMode dac_mode = DacMode::write;
    uint8_t dac_index = 0;
    uint8_t dac_component = 0;
    std::array<uint8_t, 3> dac_latch{};
    std::array<uint8_t, 768> dac{};
    uint32_t latches = 0;
    /// One cell per address: the bytes of maps 0 to 3, map 0 in the low bits.
    std::vector<uint32_t> memory = std::vector<uint32_t>(vga_cells);
    DispiState dispi;
    PciFunctionState pci;  // of an adapter that is not on PCI: as new

    static void fields(auto& self, auto&& visit) {
        visit("miscellaneous", self.miscellaneous);
        visit("feature-control", self.feature_control);
        visit("subsystem-enable", self.subsystem_enable);
        visit("sequencer-index", self.sequencer_index);
        visit("sequencer", self.sequencer);
        visit("crtc-index", self.crtc_index);
        visit("crtc", self.crtc);
        visit("graphics-index", self.graphics_index);
        visit("graphics", self.graphics);
        visit("attribute-index", self.attribute_index);
        visit("attribute-data-next", self.attribute_data_next);
        visit("attribute", self.attribute);
        visit("dac-mask", self.dac_mask);
        visit("dac-mode", self.dac_mode);
        visit("dac-index", self.dac_index);
        visit("dac-component", self.dac_component);
        visit("dac-latch", self.dac_latch);
        visit("dac", self.dac);
        visit("latches", self.latches);
        visit("memory", self.memory);
        visit("dispi", self.dispi);
        visit("pci", self.pci);
    }
    bool operator==(const VgaState&) const = default;

    [[nodiscard]] constexpr uint8_t sr(SR reg) const { return sequencer[std::to_underlying(reg)]; }
    [[nodiscard]] constexpr uint8_t cr(CR reg) const { return crtc[std::to_underlying(reg)]; }
    [[nodiscard]] constexpr uint8_t gr(GR reg) const { return graphics[std::to_underlying(reg)]; }
    [[nodiscard]] constexpr uint8_t ar(AR reg) const { return attribute[std::to_underlying(reg)]; }
};

}  // namespace viv
