// The POST memory manager: memory that option ROMs may use while they are initialised.
// Reference: POST Memory Manager Specification 1.01.

#include "bios/system/services.hpp"

namespace viv::rom {
namespace {

enum class Function : uint16_t { allocate = 0, find = 1, deallocate = 2 };
constexpr uint16_t conventional = 0x0001, extended = 0x0002, aligned = 0x0004;
constexpr uint32_t not_supported = 0xFFFFFFFF, anonymous = 0xFFFFFFFF;

// What is given away is written down below the boot sector's stack, where nothing else is until the boot.
constexpr uint16_t record_segment = 0x0060;
constexpr Field<uint16_t> record_count{0};
constexpr uint16_t records = 4, most_records = 32;
struct Record {
    uint32_t handle;
    uint32_t base;
    uint32_t end;
};

struct Range {
    uint32_t begin;
    uint32_t end;
};

// Between what POST and the ROMs' stack use and the EBDA.
Range low_memory() {
    return {0x20000, 0x80000};
}

// From 2 MiB on, up to the end of RAM, 14 MiB at most.
Range high_memory() {
    constexpr uint32_t mib = 1 << 20;
    const uint32_t end = mib + cmos_read_word(0x30) * 1024u;
    return {2 * mib, end < 14 * mib ? end : 14 * mib};
}

uint16_t count() {
    return far_read<uint16_t>(record_segment, record_count.offset);
}

uint16_t place_of(uint16_t index) {
    return static_cast<uint16_t>(records + index * sizeof(Record));
}

Record record(uint16_t index) {
    const uint16_t at = place_of(index);
    return {far_read<uint32_t>(record_segment, at), far_read<uint32_t>(record_segment, static_cast<uint16_t>(at + 4)),
            far_read<uint32_t>(record_segment, static_cast<uint16_t>(at + 8))};
}

void set_record(uint16_t index, const Record& value) {
    const uint16_t at = place_of(index);
    far_write(record_segment, at, value.handle);
    far_write(record_segment, static_cast<uint16_t>(at + 4), value.base);
    far_write(record_segment, static_cast<uint16_t>(at + 8), value.end);
}

uint32_t aligned_up(uint32_t address, uint32_t alignment) {
    return (address + alignment - 1) & ~(alignment - 1);
}

// The first place in `range` that is free for `length` bytes; 0 if there is none.
uint32_t free_place(const Range& range, uint32_t length, uint32_t alignment) {
    uint32_t base = aligned_up(range.begin, alignment);
    for (uint16_t i = 0; i < count(); ++i) {
        const Record taken = record(i);
        if (base + length <= taken.base || base >= taken.end) continue;
        base = aligned_up(taken.end, alignment);
        i = 0xFFFF;  // from the first one again
    }
    return base < range.end && length <= range.end - base ? base : 0;
}

// What is behind the last piece that was given away.
uint32_t largest_free(const Range& range) {
    uint32_t begin = range.begin;
    for (uint16_t i = 0; i < count(); ++i) {
        const Record taken = record(i);
        if (taken.base >= range.begin && taken.end <= range.end && taken.end > begin) begin = taken.end;
    }
    return begin < range.end ? range.end - begin : 0;
}

// `length` is in paragraphs; 0 asks for the largest piece there is, in paragraphs.
uint32_t allocate(uint32_t length, uint32_t handle, uint16_t flags) {
    const Range high = high_memory();
    if (length == 0) {
        const uint32_t below = flags & conventional ? largest_free(low_memory()) : 0;
        const uint32_t above = flags & extended ? largest_free(high) : 0;
        return (below > above ? below : above) / 16;
    }
    if (length >= 0x100000 || count() == most_records) return 0;
    const uint32_t bytes = length * 16;
    // Aligned means to the lowest bit of the length.
    const uint32_t alignment = flags & aligned ? bytes & (0 - bytes) : 16;
    uint32_t base = 0;
    if (flags & conventional) base = free_place(low_memory(), bytes, alignment);
    if (base == 0 && flags & extended) base = free_place(high, bytes, alignment);
    if (base == 0) return 0;
    const uint16_t index = count();
    set_record(index, {handle, base, base + bytes});
    far_write(record_segment, record_count.offset, static_cast<uint16_t>(index + 1));
    return base;
}

uint32_t find(uint32_t handle) {
    for (uint16_t i = 0; i < count(); ++i) {
        const Record taken = record(i);
        if (handle != anonymous && taken.handle == handle) return taken.base;
    }
    return 0;
}

uint32_t deallocate(uint32_t base) {
    for (uint16_t i = 0; i < count(); ++i) {
        if (record(i).base != base) continue;
        const auto last = static_cast<uint16_t>(count() - 1);
        set_record(i, record(last));
        far_write(record_segment, record_count.offset, last);
        return 0;
    }
    return 1;
}

}  // namespace

void start_memory_manager() {
    far_write(record_segment, record_count.offset, uint16_t{0});
}

// AX = function, EBX and ECX = its first two double words, DX = the word behind them; the answer goes into DX:AX.
extern "C" void post_memory_service(Registers& r) {
    uint32_t answer = not_supported;
    if (ebda_get(VIV_EBDA_FIELD(post_is_running))) {
        switch (static_cast<Function>(r.ax())) {
            case Function::allocate: answer = allocate(r.ebx(), r.ecx(), r.dx()); break;
            case Function::find: answer = find(r.ebx()); break;
            case Function::deallocate: answer = deallocate(r.ebx()); break;
        }
    }
    r.ax() = static_cast<uint16_t>(answer);
    r.dx() = static_cast<uint16_t>(answer >> 16);
}

}  // namespace viv::rom
