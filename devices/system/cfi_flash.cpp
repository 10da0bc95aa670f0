#include "devices/system/cfi_flash.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>

namespace viv {
namespace {

enum Command : uint8_t {
    ALTERNATE_PROGRAM = 0x10,
    BLOCK_ERASE = 0x20,
    PROGRAM = 0x40,
    CLEAR_STATUS_REGISTER = 0x50,
    LOCK = 0x60,
    READ_STATUS_REGISTER = 0x70,
    READ_IDENTIFIER = 0x90,
    READ_QUERY = 0x98,
    CONFIRM = 0xD0,
    WRITE_TO_BUFFER = 0xE8,
    READ_ARRAY = 0xFF,
};

constexpr uint8_t SR_READY = 0x80;
constexpr uint8_t SR_ERASE_ERROR = 0x20;
constexpr uint8_t SR_PROGRAM_ERROR = 0x10;
constexpr uint8_t SR_BLOCK_LOCKED = 0x02;
constexpr uint8_t SR_SEQUENCE_ERROR = SR_ERASE_ERROR | SR_PROGRAM_ERROR;
constexpr uint8_t status_bits = SR_READY | SR_SEQUENCE_ERROR | SR_BLOCK_LOCKED;

constexpr uint8_t manufacturer = 0x89, device = 0x18;

/// Log2, rounded up.
uint8_t log2_of(uint64_t value) {
    return static_cast<uint8_t>(std::bit_width(value - 1));
}

/// The CFI query table from 10h on (JESD68.01).
uint8_t query_byte(uint64_t at, uint64_t size) {
    const uint64_t blocks = size / CfiFlash::block_size - 1;
    const std::array<uint8_t, 0x21> table{'Q',
                                          'R',
                                          'Y',
                                          0x01,
                                          0x00,
                                          0x31,
                                          0x00,
                                          0,
                                          0,
                                          0,
                                          0,  // Intel extended; the primary table is at 31h
                                          0x27,
                                          0x36,
                                          0,
                                          0,  // 2.7 V to 3.6 V
                                          7,
                                          7,
                                          10,
                                          0,
                                          4,
                                          4,
                                          4,
                                          0,  // times: 128 us, 1 s; at most 16 times as long
                                          log2_of(size),
                                          0x00,
                                          0x00,
                                          log2_of(CfiFlash::buffer_size),
                                          0,  // an 8-bit bus
                                          1,
                                          static_cast<uint8_t>(blocks),
                                          static_cast<uint8_t>(blocks >> 8),
                                          CfiFlash::block_size >> 8 & 0xFF,
                                          0};
    constexpr uint64_t first = 0x10;
    constexpr std::array<uint8_t, 15> primary{'P', 'R', 'I', '1', '1', 0, 0, 0, 0, 0, 0, 0, 0, 0x33, 0};
    constexpr uint64_t primary_at = 0x31;
    if (at >= primary_at && at - primary_at < primary.size()) return primary[at - primary_at];
    return at >= first && at - first < table.size() ? table[at - first] : 0;
}

}  // namespace

CfiFlash::CfiFlash(GuestMemory& memory, Gpa base, GuestMemory::Store contents, std::unique_ptr<DiskImage> image)
    : memory_(memory), base_(base), contents_(contents), image_(std::move(image)) {
    show();
}

CfiFlash::~CfiFlash() {
    write_out();
    // The host may lose its power any time after the machine has gone.
    if (!image_->read_only()) static_cast<void>(image_->flush());
    if (shown_) memory_.remove(base_);
}

void CfiFlash::reset(ResetKind /*kind*/) {
    write_out();
    state_ = {};
    show();
}

uint8_t CfiFlash::read8(uint64_t offset) {
    switch (state_.mode) {
        case Mode::array: return std::to_integer<uint8_t>(memory_.bytes(contents_)[offset]);
        case Mode::identifier: {
            const uint64_t code = offset % block_size;
            return code == 0 ? manufacturer : code == 1 ? device : uint8_t{0};
        }
        case Mode::query: return query_byte(offset % block_size, size());
        default: return state_.status;
    }
}

void CfiFlash::write8(uint64_t offset, uint8_t value) {
    switch (state_.mode) {
        case Mode::program:
            program(offset, value);
            return finish(image_->read_only() ? SR_PROGRAM_ERROR | SR_BLOCK_LOCKED : 0);
        case Mode::erase:
            if (value != CONFIRM) return finish(SR_SEQUENCE_ERROR);
            return erase(offset);
        case Mode::lock: return finish(0);
        case Mode::buffer_count:
            if (value >= buffer_size) return finish(SR_SEQUENCE_ERROR);
            state_.buffer.clear();
            state_.expected = static_cast<uint8_t>(value + 1);
            return set_mode(Mode::buffer_data);
        case Mode::buffer_data:
            state_.buffer.push_back({static_cast<uint32_t>(offset), value});
            if (--state_.expected == 0) set_mode(Mode::buffer_confirm);
            return;
        case Mode::buffer_confirm: {
            const auto bytes = std::exchange(state_.buffer, {});
            if (value != CONFIRM) return finish(SR_SEQUENCE_ERROR);
            for (const auto& [at, byte] : bytes) program(at, byte);
            return finish(image_->read_only() ? SR_PROGRAM_ERROR | SR_BLOCK_LOCKED : 0);
        }
        default: return command(offset, value);
    }
}

void CfiFlash::command(uint64_t /*offset*/, uint8_t value) {
    if (value != PROGRAM && value != ALTERNATE_PROGRAM) write_out();
    switch (value) {
        case READ_STATUS_REGISTER: return set_mode(Mode::status);
        case READ_IDENTIFIER: return set_mode(Mode::identifier);
        case READ_QUERY: return set_mode(Mode::query);
        case PROGRAM:
        case ALTERNATE_PROGRAM: return set_mode(Mode::program);
        case BLOCK_ERASE: return set_mode(Mode::erase);
        case LOCK: return set_mode(Mode::lock);
        case WRITE_TO_BUFFER: state_.status |= SR_READY; return set_mode(Mode::buffer_count);
        case CLEAR_STATUS_REGISTER:
            // All of it, as QEMU's chip does: OVMF tells flash from ROM by a status of 0 that follows.
            state_.status = 0;
            return set_mode(Mode::array);
        default: return set_mode(Mode::array);
    }
}

/// Programming clears bits and sets none.
void CfiFlash::program(uint64_t offset, uint8_t value) {
    if (image_->read_only()) return;
    const uint64_t sector = offset / DiskImage::sector_size;
    if (changed_sector_ != sector) write_out();
    changed_sector_ = sector;
    memory_.bytes(contents_)[offset] &= std::byte{value};
    memory_.note_store_write(contents_, offset, 1);
}

void CfiFlash::erase(uint64_t offset) {
    if (image_->read_only()) return finish(SR_ERASE_ERROR | SR_BLOCK_LOCKED);
    const uint64_t block = offset / block_size * block_size;
    const auto bytes = memory_.bytes(contents_).subspan(block, block_size);
    std::ranges::fill(bytes, std::byte{0xFF});
    memory_.note_store_write(contents_, block, block_size);
    finish(image_->write(block, bytes) == DiskStatus::ok ? 0 : SR_ERASE_ERROR);
}

/// The end of an operation: its status is read next.
void CfiFlash::finish(uint8_t errors) {
    state_.status = static_cast<uint8_t>(state_.status | SR_READY | errors);
    set_mode(Mode::status);
}

void CfiFlash::write_out() {
    if (!changed_sector_) return;
    const uint64_t at = *std::exchange(changed_sector_, std::nullopt) * DiskImage::sector_size;
    const auto bytes = memory_.bytes(contents_).subspan(at, DiskImage::sector_size);
    if (image_->write(at, bytes) != DiskStatus::ok) state_.status |= SR_PROGRAM_ERROR;
}

void CfiFlash::set_mode(Mode mode) {
    state_.mode = mode;
    show();
}

/// The array is memory at the speed of ROM; everything else is read through the bus.
void CfiFlash::show() {
    const bool shows = state_.mode == Mode::array;
    if (shows == shown_) return;
    shown_ = shows;
    if (shows) {
        const auto done =
            memory_.show(base_, contents_.size, contents_, 0, GuestMemory::Kind::rom, "firmware variables");
        VIV_ASSERT(done.has_value());  // nobody else takes addresses there
    } else {
        memory_.remove(base_);
    }
}

Result<void> CfiFlash::validate(const CfiFlashState& staged) const {
    const bool buffering = staged.mode == Mode::buffer_data || staged.mode == Mode::buffer_confirm;
    const size_t bytes = staged.buffer.size() + staged.expected;
    const bool inside =
        std::ranges::all_of(staged.buffer, [this](const auto& byte) { return byte.offset < contents_.size; });
    if (staged.mode > Mode::buffer_confirm || (staged.status & ~status_bits) || !inside || bytes > buffer_size ||
        (!buffering && !staged.buffer.empty()) || (staged.mode == Mode::buffer_data) != (staged.expected != 0)) {
        return fail("CFI flash: the saved state holds what the chip cannot");
    }
    return {};
}

Result<std::unique_ptr<Device>> make_cfi_flash(DeviceContext& context) {
    constexpr uint64_t lowest = 0xFF00'0000;
    const auto path = TRY(context.need_string("viv,image"));
    const FirmwareRom& rom = *TRY(context.need<FirmwareRom>("the ROM image of a firmware (--firmware)"));
    auto image = TRY(open_disk_image(path, image_access(context.node)));
    const uint64_t size = image->size();
    if (size % CfiFlash::block_size || size > rom.base - lowest) {
        return context.refuse(fmt::format(
            "'{}' has {} bytes; a flash has a multiple of 4 KiB, and 16 MiB at most together with its firmware", path,
            size));
    }
    const auto contents = TRY(context.memory.add_store(size, "firmware variables"));
    if (image->read(0, context.memory.bytes(contents)) != DiskStatus::ok)
        return context.refuse(fmt::format("cannot read '{}'", path));
    const Gpa base{rom.base - size};
    auto flash = std::make_unique<CfiFlash>(context.memory, base, contents, std::move(image));
    TRY(context.memory_bus.map(base.value, size, *flash, context.path));
    return flash;
}

}  // namespace viv
