#include "devices/video/vga.hpp"

#include <algorithm>

#include "devices/video/renderer.hpp"
#include "devices/video/vga_timing.hpp"

namespace viv {
namespace {

constexpr std::array<uint8_t, 5> sequencer_bits = {0x03, 0x3D, 0x0F, 0x3F, 0x0E};
constexpr std::array<uint8_t, 9> graphics_bits = {0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF};

constexpr uint8_t attribute_bits(size_t index) {
    constexpr std::array<uint8_t, 5> controls = {0xEF, 0xFF, 0x3F, 0x0F, 0x0F};
    return index < 0x10 ? 0x3F : controls[index - 0x10];
}

// A register beyond the last one reads as zero.
template <size_t N>
uint8_t read_indexed(const std::array<uint8_t, N>& registers, uint8_t index) {
    return index < N ? registers[index] : 0;
}

}  // namespace

uint8_t Vga::Ports::read8(uint64_t offset) {
    return vga_.read_port(static_cast<VgaPort>(first_port + offset));
}

void Vga::Ports::write8(uint64_t offset, uint8_t value) {
    vga_.write_port(static_cast<VgaPort>(first_port + offset), value);
}

uint64_t Vga::Memory::read(Access access) {
    if (vga_.fast_path_.takes(access.offset, access.size)) {
        return vga_fast_read(vga_.state_, vga_.fast_path_, access.offset, access.size);
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < access.size; ++i) {
        value |= uint64_t{vga_read_memory(vga_.state_, static_cast<uint32_t>(access.offset + i))} << (8 * i);
    }
    return value;
}

void Vga::Memory::write(Access access, uint64_t value) {
    bool changed = false;
    if (vga_.fast_path_.takes(access.offset, access.size)) {
        changed = vga_fast_write(vga_.state_, vga_.fast_path_, access.offset, access.size, value);
    } else {
        for (unsigned i = 0; i < access.size; ++i) {
            changed |= vga_write_memory(vga_.state_, static_cast<uint32_t>(access.offset + i),
                                        static_cast<uint8_t>(value >> (8 * i)));
        }
    }
    if (changed) vga_.picture_changed();
}

void Vga::reset(ResetKind /*kind*/) {
    state_ = VgaState{};
    registers_changed();
}

void Vga::registers_changed() {
    fast_path_ = vga_fast_path(state_);
    picture_changed();
}

void Vga::picture_changed() {
    if (++generation_ < watch_at_) return;
    watch_at_ = generation_ + watch_period_;
    watcher_();
}

void Vga::on_changes(uint64_t changes, std::move_only_function<void()> handler) {
    watcher_ = std::move(handler);
    watch_period_ = changes;
    watch_at_ = watcher_ ? generation_ + changes : ~uint64_t{0};
}

Result<void> Vga::validate(const VgaState& staged) const {
    if (staged.memory.size() != vga_cells) return fail("memory has the wrong size");
    if (staged.dac_component > 2) return fail("dac-component is above 2");
    if (staged.dac_mode != DacMode::write && staged.dac_mode != DacMode::read)
        return fail("dac-mode is neither 0 nor 3");
    const auto beyond = [](uint8_t value, uint8_t bits) { return (value & ~bits) != 0; };
    for (size_t i = 0; i < staged.sequencer.size(); ++i) {
        if (beyond(staged.sequencer[i], sequencer_bits[i])) return fail("sequencer has bits that do not exist");
    }
    for (size_t i = 0; i < staged.graphics.size(); ++i) {
        if (beyond(staged.graphics[i], graphics_bits[i])) return fail("graphics has bits that do not exist");
    }
    for (size_t i = 0; i < staged.attribute.size(); ++i) {
        if (beyond(staged.attribute[i], attribute_bits(i))) return fail("attribute has bits that do not exist");
    }
    const auto too_wide = [](uint8_t value) { return value > 0x3F; };
    if (std::ranges::any_of(staged.dac, too_wide) || std::ranges::any_of(staged.dac_latch, too_wide)) {
        return fail("dac has a value of more than 6 bits");
    }
    return {};
}

TextScreen Vga::text() const {
    return vga_text(state_);
}

std::move_only_function<Image()> Vga::freeze() const {
    return [state = state_, now = clock_.now()] { return vga_picture(state, now); };
}

bool Vga::decodes(VgaPort port) const {
    if (port == VgaPort::subsystem_enable) return true;
    if (!(state_.subsystem_enable & 1)) return false;
    const auto number = std::to_underlying(port);
    if (number < 0x3C0) return !(state_.miscellaneous & misc_colour_ports);
    if (number >= 0x3D0) return (state_.miscellaneous & misc_colour_ports) != 0;
    return true;
}

uint8_t Vga::read_port(VgaPort port) {
    if (!decodes(port)) return 0xFF;
    switch (port) {
        case VgaPort::mono_crtc_index:
        case VgaPort::colour_crtc_index: return state_.crtc_index;
        case VgaPort::mono_crtc_data:
        case VgaPort::colour_crtc_data: return read_indexed(state_.crtc, state_.crtc_index);
        case VgaPort::mono_status_1:
        case VgaPort::colour_status_1: return read_status_1();
        case VgaPort::attribute: return state_.attribute_index;
        case VgaPort::attribute_data: return read_indexed(state_.attribute, state_.attribute_index & 0x1F);
        // Bit 4 is the switch sense: a colour monitor is there. Bit 7, the retrace interrupt, is never pending.
        case VgaPort::miscellaneous_write: return 0x10;
        case VgaPort::subsystem_enable: return state_.subsystem_enable;
        case VgaPort::sequencer_index: return state_.sequencer_index;
        case VgaPort::sequencer_data: return read_indexed(state_.sequencer, state_.sequencer_index);
        case VgaPort::dac_mask: return state_.dac_mask;
        case VgaPort::dac_read_index: return std::to_underlying(state_.dac_mode);
        case VgaPort::dac_write_index: return state_.dac_index;
        case VgaPort::dac_data: return read_dac();
        case VgaPort::feature_control_read: return state_.feature_control;
        case VgaPort::miscellaneous_read: return state_.miscellaneous;
        case VgaPort::graphics_index: return state_.graphics_index;
        case VgaPort::graphics_data: return read_indexed(state_.graphics, state_.graphics_index);
    }
    return 0xFF;
}

void Vga::write_port(VgaPort port, uint8_t value) {
    if (!decodes(port)) return;
    switch (port) {
        case VgaPort::mono_crtc_index:
        case VgaPort::colour_crtc_index: state_.crtc_index = value & 0x3F; return;
        case VgaPort::mono_crtc_data:
        case VgaPort::colour_crtc_data: write_crtc(value); break;
        case VgaPort::mono_status_1:
        case VgaPort::colour_status_1: state_.feature_control = value & 0x0B; return;
        case VgaPort::attribute: write_attribute(value); break;
        case VgaPort::miscellaneous_write: state_.miscellaneous = value; break;
        case VgaPort::subsystem_enable: state_.subsystem_enable = value & 0x01; break;
        case VgaPort::sequencer_index: state_.sequencer_index = value & 0x07; return;
        case VgaPort::sequencer_data:
            if (state_.sequencer_index < state_.sequencer.size()) {
                state_.sequencer[state_.sequencer_index] = value & sequencer_bits[state_.sequencer_index];
            }
            break;
        case VgaPort::dac_mask: state_.dac_mask = value; break;
        case VgaPort::dac_read_index:
            state_.dac_mode = DacMode::read;
            state_.dac_index = value;
            state_.dac_component = 0;
            return;
        case VgaPort::dac_write_index:
            state_.dac_mode = DacMode::write;
            state_.dac_index = value;
            state_.dac_component = 0;
            return;
        case VgaPort::dac_data: write_dac(value); break;
        case VgaPort::graphics_index: state_.graphics_index = value & 0x0F; return;
        case VgaPort::graphics_data:
            if (state_.graphics_index < state_.graphics.size()) {
                state_.graphics[state_.graphics_index] = value & graphics_bits[state_.graphics_index];
            }
            break;
        case VgaPort::attribute_data:
        case VgaPort::feature_control_read:
        case VgaPort::miscellaneous_read: return;  // read-only
    }
    registers_changed();
}

uint8_t Vga::read_status_1() {
    state_.attribute_data_next = false;
    const VgaTiming timing = vga_timing(state_);
    const VgaBeam beam = vga_beam(timing, clock_.now());
    return static_cast<uint8_t>((vga_in_display(timing, beam) ? 0x00 : 0x01) |
                                (vga_in_vertical_retrace(timing, beam) ? 0x08 : 0x00));
}

void Vga::write_crtc(uint8_t value) {
    const uint8_t index = state_.crtc_index;
    if (index >= state_.crtc.size()) return;
    if (index <= 7 && (state_.cr(CR::vertical_retrace_end) & cr11_protect)) {
        // The line compare bit in the overflow register stays writable, for split screens.
        if (index != std::to_underlying(CR::overflow)) return;
        value = static_cast<uint8_t>((state_.crtc[index] & ~cr7_line_compare_8) | (value & cr7_line_compare_8));
    }
    state_.crtc[index] = value;
}

void Vga::write_attribute(uint8_t value) {
    if (!state_.attribute_data_next) {
        state_.attribute_index = value & 0x3F;
    } else if (const size_t index = state_.attribute_index & 0x1F; index < state_.attribute.size()) {
        state_.attribute[index] = value & attribute_bits(index);
    }
    state_.attribute_data_next = !state_.attribute_data_next;
}

uint8_t Vga::read_dac() {
    const uint8_t value = state_.dac[state_.dac_index * 3u + state_.dac_component];
    if (++state_.dac_component == 3) {
        state_.dac_component = 0;
        ++state_.dac_index;
    }
    return value;
}

void Vga::write_dac(uint8_t value) {
    // A colour changes as a whole, with its third component.
    state_.dac_latch[state_.dac_component] = value & 0x3F;
    if (++state_.dac_component < 3) return;
    std::ranges::copy(state_.dac_latch, state_.dac.begin() + state_.dac_index * 3);
    state_.dac_component = 0;
    ++state_.dac_index;
}

Result<std::unique_ptr<Device>> make_vga(DeviceContext& context) {
    auto vga = std::make_unique<Vga>(context.clock);
    for (size_t i = 0; i < context.ranges.size(); ++i) {
        const DeviceRange& range = context.ranges[i];
        const bool is_memory = range.space == DeviceRange::Space::memory;
        if (is_memory ? range.base != 0xA0000 || range.size != vga_window_size
                      : range.base != Vga::first_port || range.size != Vga::port_count) {
            return context.refuse("a VGA's reg is <0 0xa0000 0x20000>, <1 0x3b0 0x30>");
        }
        TRY(context.map(i, is_memory ? vga->memory() : vga->ports()));
    }
    context.services.provide<Screen>(*vga);
    return vga;
}

}  // namespace viv
