#include "devices/video/vga.hpp"

#include <algorithm>
#include <cstring>

#include "bios/rom_images.hpp"
#include "bios/video/edid.hpp"
#include "devices/video/linear_picture.hpp"
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

// Tells two contents apart, as fast as memory is read. No guest gains by making two alike: it would only hide its own
// picture from its own user.
uint64_t fingerprint(std::span<const std::byte> bytes) {
    constexpr uint64_t factor = 0x9E37'79B9'7F4A'7C15;
    std::array<uint64_t, 4> lanes = {1, 2, 3, 4};
    constexpr size_t step = sizeof lanes;
    for (; bytes.size() >= step; bytes = bytes.subspan(step)) {
        std::array<uint64_t, 4> next{};
        std::memcpy(next.data(), bytes.data(), step);
        for (size_t i = 0; i < lanes.size(); ++i) lanes[i] = (lanes[i] ^ next[i]) * factor;
    }
    uint64_t sum = 0;
    for (const uint64_t lane : lanes) sum = (sum ^ lane ^ lane >> 32) * factor;
    for (const std::byte byte : bytes) sum = (sum ^ std::to_integer<uint64_t>(byte)) * factor;
    return sum;
}

constexpr Edid monitor = make_edid();
constexpr uint64_t vga_registers_at = 0x400, dispi_registers_at = 0x500, dispi_registers_end = 0x516,
                   extended_registers_at = 0x600;
constexpr std::array<uint32_t, 2> extended_registers = {8, 0x1E1E'1E1E};  // their size; little-endian

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
    if (vga_.state_.dispi.shows_bank()) {
        uint64_t value = ~uint64_t{0};
        const auto bytes = vga_.banked(access);
        if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
        return value;
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < access.size; ++i) {
        value |= uint64_t{vga_read_memory(vga_.state_, vga_.cells(), static_cast<uint32_t>(access.offset + i))}
                 << (8 * i);
    }
    return value;
}

void Vga::Memory::write(Access access, uint64_t value) {
    bool changed = false;
    if (vga_.fast_path_.takes(access.offset, access.size)) {
        changed = vga_fast_write(vga_.state_, vga_.fast_path_, access.offset, access.size, value);
    } else if (vga_.state_.dispi.shows_bank()) {
        const auto bytes = vga_.banked(access);
        if (!bytes.empty()) std::memcpy(bytes.data(), &value, bytes.size());
    } else {
        for (unsigned i = 0; i < access.size; ++i) {
            changed |= vga_write_memory(vga_.state_, vga_.cells(), static_cast<uint32_t>(access.offset + i),
                                        static_cast<uint8_t>(value >> (8 * i)));
        }
    }
    if (changed) vga_.picture_changed();
}

uint64_t Vga::DispiPorts::read(Access access) {
    if (access.size != 2 || vga_.linear_.empty()) return ~uint64_t{0};
    return access.offset == 0 ? vga_.state_.dispi.index : dispi_read(vga_.state_.dispi, vga_.linear_.size());
}

void Vga::DispiPorts::write(Access access, uint64_t value) {
    if (access.size != 2 || vga_.linear_.empty()) return;
    if (access.offset == 0) {
        vga_.state_.dispi.index = static_cast<uint16_t>(value);
    } else {
        vga_.write_dispi(static_cast<uint16_t>(value));
    }
}

uint64_t Vga::Registers::read(Access access) {
    const uint64_t at = access.offset;
    if (at >= dispi_registers_at && at + access.size <= dispi_registers_end && at % 2 == 0 && access.size == 2) {
        DispiState asked = vga_.state_.dispi;
        asked.index = static_cast<uint16_t>((at - dispi_registers_at) / 2);
        return dispi_read(asked, vga_.linear_.size());
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < access.size; ++i) {
        const uint64_t here = at + i;
        uint8_t byte = 0xFF;
        if (here < vga_registers_at) {
            byte = here < Edid::size ? monitor.bytes[here] : 0;
        } else if (here - vga_registers_at < 0x20) {
            byte = vga_.read_port(static_cast<VgaPort>(0x3C0 + here - vga_registers_at));
        } else if (here >= extended_registers_at && here - extended_registers_at < sizeof extended_registers) {
            const uint64_t place = here - extended_registers_at;
            byte = static_cast<uint8_t>(extended_registers[place / 4] >> (8 * (place % 4)));
        }
        value |= uint64_t{byte} << (8 * i);
    }
    return value;
}

void Vga::Registers::write(Access access, uint64_t value) {
    const uint64_t at = access.offset;
    if (at >= dispi_registers_at && at + access.size <= dispi_registers_end && at % 2 == 0 && access.size == 2) {
        const uint16_t index = vga_.state_.dispi.index;
        vga_.state_.dispi.index = static_cast<uint16_t>((at - dispi_registers_at) / 2);
        vga_.write_dispi(static_cast<uint16_t>(value));
        vga_.state_.dispi.index = index;
        return;
    }
    for (unsigned i = 0; i < access.size; ++i) {
        const uint64_t here = at + i - vga_registers_at;
        if (here < 0x20) vga_.write_port(static_cast<VgaPort>(0x3C0 + here), static_cast<uint8_t>(value >> (8 * i)));
    }
}

VgaCells Vga::cells() {
    if (!state_.dispi.enabled()) return state_.memory;
    const auto bank = linear_.subspan(size_t{state_.dispi.bank} * dispi_bank_size * 4, dispi_bank_size * 4);
    return {reinterpret_cast<uint32_t*>(bank.data()), dispi_bank_size};
}

std::span<std::byte> Vga::banked(Access access) {
    if (access.offset >= dispi_bank_size || !(state_.miscellaneous & misc_memory_enable)) return {};
    const uint64_t size = std::min<uint64_t>(access.size, dispi_bank_size - access.offset);
    return linear_.subspan(state_.dispi.bank * size_t{dispi_bank_size} + access.offset, size);
}

void Vga::write_dispi(uint16_t value) {
    const bool was_wide = state_.dispi.wide_dac();
    if (dispi_write(state_.dispi, value, linear_.size())) {
        const DispiFrame frame = dispi_frame(state_.dispi);
        std::ranges::fill(linear_.subspan(frame.start, frame.size), std::byte{0});
    }
    if (was_wide != state_.dispi.wide_dac()) {
        // The colours stay what they are; there are just more or fewer bits to each.
        const auto convert = [was_wide](uint8_t& level) {
            level = static_cast<uint8_t>(was_wide ? level >> 2 : level << 2 | level >> 4);
        };
        std::ranges::for_each(state_.dac, convert);
        std::ranges::for_each(state_.dac_latch, convert);
    }
    registers_changed();
}

void Vga::reset(ResetKind /*kind*/) {
    state_ = VgaState{};
    if (pci_) pci_->reset();
    registers_changed();
}

PciFunction& Vga::join_pci(GuestMemory::Store store, GuestMemory::Store rom) {
    constexpr PciIdentity identity = {.vendor = 0x1234,
                                      .device = 0x1111,
                                      .class_code = 0x030000,
                                      .revision = 2,
                                      .subsystem_vendor = 0x1AF4,
                                      .subsystem = 0x1100};
    store_ = store;
    pci_ = std::make_unique<PciFunction>(identity, state_.pci);
    pci_->add_ram_bar(0, store);
    pci_->add_memory_bar(2, registers_size, registers_);
    pci_->add_rom_bar(rom);
    constexpr uint16_t commands = pci::IO_SPACE | pci::MEMORY_SPACE | pci::BUS_MASTER;
    pci_->add_register(pci::COMMAND, 2, 0, commands);
    pci_->add_decoder([this](std::vector<PciWindow>& windows) { decode(windows); });
    return *pci_;
}

void Vga::decode(std::vector<PciWindow>& windows) {
    constexpr uint64_t window_base = 0xA0000;
    using enum PciWindow::Space;
    if (pci_->command() & pci::IO_SPACE) {
        windows.push_back({.space = ports, .base = first_port, .size = port_count, .device = &ports_});
        windows.push_back(
            {.space = ports, .base = first_dispi_port, .size = dispi_port_count, .device = &dispi_ports_});
    }
    decoded_bank_ = shown_bank();
    if (!(pci_->command() & pci::MEMORY_SPACE)) return;
    if (decoded_bank_) {
        windows.push_back({.base = window_base,
                           .size = dispi_bank_size,
                           .store = store_,
                           .offset = uint64_t{*decoded_bank_} * dispi_bank_size});
    } else {
        windows.push_back({.base = window_base, .size = vga_window_size, .device = &memory_});
    }
}

std::optional<uint16_t> Vga::shown_bank() const {
    if (!state_.dispi.shows_bank() || !(state_.miscellaneous & misc_memory_enable)) return std::nullopt;
    return state_.dispi.bank;
}

void Vga::after_load() {
    if (pci_) pci_->after_load();
    registers_changed();
}

void Vga::registers_changed() {
    fast_path_ = vga_fast_path(state_);
    if (pci_ && shown_bank() != decoded_bank_) pci_->remap();
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

std::vector<uint8_t> Vga::font_memory() const {
    std::vector<uint8_t> map;
    map.reserve(state_.memory.size());
    for (const uint32_t cell : state_.memory) map.push_back(static_cast<uint8_t>(cell >> 16));
    return map;
}

uint64_t Vga::generation() const {
    if (state_.dispi.enabled()) {
        const DispiFrame frame = dispi_frame(state_.dispi);
        const uint64_t now = fingerprint(linear_.subspan(frame.start, frame.size));
        if (now != seen_linear_) ++generation_;
        seen_linear_ = now;
    }
    return generation_;
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
    if (!staged.dispi.wide_dac() &&
        (std::ranges::any_of(staged.dac, too_wide) || std::ranges::any_of(staged.dac_latch, too_wide))) {
        return fail("dac has a value of more than 6 bits");
    }
    if (linear_.empty() ? staged.dispi != DispiState{} : !dispi_is_valid(staged.dispi, linear_.size())) {
        return fail("dispi shows more than there is memory for");
    }
    if (pci_) return pci_->validate(staged.pci);
    if (staged.pci != PciFunctionState{}) return fail("pci is of an adapter on PCI");
    return {};
}

TextScreen Vga::text() const {
    if (!state_.dispi.enabled()) return vga_text(state_);
    TextScreen screen;
    screen.kind = ScreenKind::graphics;
    screen.blanked = is_linear_blanked(state_);
    return screen;
}

std::move_only_function<Image()> Vga::freeze() const {
    if (state_.dispi.enabled()) {
        return [picture = LinearPicture(state_, linear_)] { return picture.image(); };
    }
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
    state_.dac_latch[state_.dac_component] = state_.dispi.wide_dac() ? value : value & 0x3F;
    if (++state_.dac_component < 3) return;
    std::ranges::copy(state_.dac_latch, state_.dac.begin() + state_.dac_index * 3);
    state_.dac_component = 0;
    ++state_.dac_index;
}

Result<std::unique_ptr<Device>> make_vga(DeviceContext& context) {
    constexpr std::string_view wanted =
        "a VGA's reg is <0 0xa0000 0x20000>, <1 0x3b0 0x30>, and for linear pictures <1 0x1ce 4> and, in memory, a "
        "multiple of 256 KiB up to 64 MiB";
    const auto is = [](const DeviceRange& range, DeviceRange::Space space, uint64_t base, uint64_t size) {
        return range.space == space && range.base == base && range.size == size;
    };
    using enum DeviceRange::Space;
    std::span<std::byte> linear;
    for (const DeviceRange& range : context.ranges) {
        if (range.space != memory || range.base == 0xA0000) continue;
        if (!linear.empty() || range.size % Vga::linear_unit || range.size == 0 || range.size > (64u << 20))
            return context.refuse(wanted);
        TRY(context.memory.add(Gpa{range.base}, range.size, GuestMemory::Kind::ram, "frame buffer"));
        linear = context.memory.window(Gpa{range.base}, range.size, GuestMemory::Intent::write);
    }
    auto vga = std::make_unique<Vga>(context.clock, linear);
    for (size_t i = 0; i < context.ranges.size(); ++i) {
        const DeviceRange& range = context.ranges[i];
        if (is(range, memory, 0xA0000, vga_window_size)) {
            TRY(context.map(i, vga->memory()));
        } else if (is(range, ports, Vga::first_port, Vga::port_count)) {
            TRY(context.map(i, vga->ports()));
        } else if (is(range, ports, Vga::first_dispi_port, Vga::dispi_port_count)) {
            TRY(context.map(i, vga->dispi_ports()));
        } else if (range.space == ports || range.base == 0xA0000) {
            return context.refuse(wanted);
        }
    }
    context.services.provide<Screen>(*vga);
    return vga;
}

Result<std::unique_ptr<Device>> make_pci_vga(DeviceContext& context) {
    constexpr uint64_t linear_size = 16 << 20;
    const GuestMemory::Store store = TRY(context.memory.add_store(linear_size, "video memory"));
    constexpr uint64_t rom_size = 64 << 10;
    const GuestMemory::Store rom = TRY(context.memory.add_store(rom_size, "video ROM"));
    const auto image = rom::video_bios();
    VIV_ASSERT(image.size() <= rom_size);
    std::ranges::copy(image, context.memory.bytes(rom).begin());
    auto vga = std::make_unique<Vga>(context.clock, context.memory.bytes(store));
    PciFunction& function = vga->join_pci(store, rom);
    vga->reset(ResetKind::power_on);
    TRY(function.attach(context));
    context.services.provide<Screen>(*vga);
    return vga;
}

}  // namespace viv
