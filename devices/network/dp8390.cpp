#include "devices/network/dp8390.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "devices/network/ethernet.hpp"

namespace viv {
namespace {

constexpr uint8_t CR_STP = 0x01, CR_STA = 0x02, CR_TXP = 0x04, CR_RD = 0x38, CR_read = 0x08, CR_write = 0x10;
constexpr uint8_t ISR_PRX = 0x01, ISR_PTX = 0x02, ISR_RDC = 0x40, ISR_RST = 0x80;
constexpr uint8_t RCR_AB = 0x04, RCR_AM = 0x08, RCR_PRO = 0x10, RCR_MON = 0x20;
constexpr uint8_t TCR_LB = 0x06;
constexpr uint8_t TSR_PTX = 0x01;
constexpr uint8_t RSR_PRX = 0x01, RSR_PHY = 0x20;
constexpr unsigned data_port = 0x10, reset_port = 0x18;
constexpr uint16_t memory_base = 0x4000;
constexpr size_t page = 256;

uint16_t with_byte(uint16_t old, unsigned index, uint8_t value) {
    return static_cast<uint16_t>(index ? (old & 0x00FF) | value << 8 : (old & 0xFF00) | value);
}

uint8_t byte_of(uint16_t value, unsigned index) {
    return static_cast<uint8_t>(value >> (8 * index));
}

}  // namespace

Dp8390::Dp8390(NetworkPort port, Dp8390State& state, Identity identity, Clock& clock,
               std::function<void(bool)> interrupt)
    : port_(std::move(port)),
      state_(state),
      identity_(identity),
      clock_(clock),
      reminder_(clock, [this](VirtualTime) { remind(); }),
      interrupt_(std::move(interrupt)) {
    // Each byte is there twice, for cards on 16 bits; a W in the last two says that this is one.
    for (size_t i = 0; i < prom_.size(); ++i) prom_[i] = i / 2 < port_.mac.size() ? port_.mac[i / 2] : uint8_t{0};
    std::fill(prom_.end() - 4, prom_.end(), uint8_t{'W'});
    port_.link->on_receive([this] {
        receive();
        update_irq();
    });
}

void Dp8390::reset() {
    state_ = {};
    reminder_.cancel();
    update_irq();
}

/// The reset port: the chip stops, its registers and memory stay.
void Dp8390::reset_chip() {
    state_.command = CR_STP | 0x20;
    state_.interrupts = ISR_RST;
    state_.mask = 0;
    state_.remote_count = 0;
}

// ---- Registers (chapter 10) ----------------------------------------------------------------------------------------

uint64_t Dp8390::read(Access access) {
    uint64_t value = 0;
    if (access.offset >= data_port && access.offset < reset_port) {
        // A word of remote DMA needs the whole port; a byte of it is lost when only one is read.
        for (unsigned done = 0; done < access.size; done += element()) value |= uint64_t{read_data()} << (8 * done);
    } else {
        for (unsigned i = 0; i < access.size; ++i) {
            const auto at = static_cast<unsigned>(access.offset + i);
            if (at >= reset_port) reset_chip();
            const uint8_t byte = at < data_port ? read_register(at) : uint8_t{0xFF};
            value |= uint64_t{byte} << (8 * i);
        }
    }
    update_irq();
    return value;
}

void Dp8390::write(Access access, uint64_t value) {
    if (access.offset >= data_port && access.offset < reset_port) {
        for (unsigned done = 0; done < access.size; done += element())
            write_data(static_cast<uint16_t>(value >> (8 * done)));
    } else {
        for (unsigned i = 0; i < access.size && access.offset + i < data_port; ++i)
            write_register(static_cast<unsigned>(access.offset + i), static_cast<uint8_t>(value >> (8 * i)));
    }
    update_irq();
}

uint8_t Dp8390::read_register(unsigned number) const {
    const unsigned page_number = state_.command >> 6;
    if (number == 0) return state_.command;
    if (page_number == 1) {
        if (number <= 6) return state_.physical[number - 1];
        return number == 7 ? state_.current : state_.multicast[number - 8];
    }
    if (page_number == 0) {
        switch (number) {
            case 1:
            case 8: return byte_of(state_.remote_address, 0);
            case 2:
            case 9: return byte_of(state_.remote_address, 1);
            case 3: return state_.boundary;
            case 4: return state_.transmit_status;
            case 5: return 0;  // NCR
            case 6: return 0;  // FIFO
            case 7: return state_.interrupts;
            case 10: return byte_of(static_cast<uint16_t>(identity_), 0);
            case 11: return byte_of(static_cast<uint16_t>(identity_), 1);
            case 12: return state_.receive_status;
            case 15: return state_.missed;
            default: return 0;  // CNTR0, CNTR1
        }
    }
    if (page_number == 2) {
        switch (number) {
            case 1: return state_.start;
            case 2: return state_.stop;
            case 4: return state_.transmit;
            case 12: return state_.receive_control | 0xC0;
            case 13: return state_.transmit_control | 0xE0;
            case 14: return state_.data_control | 0x80;
            case 15: return state_.mask | 0x80;
            default: return 0xFF;
        }
    }
    return 0;
}

void Dp8390::write_register(unsigned number, uint8_t value) {
    const unsigned page_number = state_.command >> 6;
    if (number == 0) return write_command(value);
    if (page_number == 1) {
        if (number <= 6) {
            state_.physical[number - 1] = value;
        } else if (number == 7) {
            state_.current = value;
        } else {
            state_.multicast[number - 8] = value;
        }
        return;
    }
    if (page_number != 0) return;
    switch (number) {
        case 1: state_.start = value; return;
        case 2: state_.stop = value; return;
        case 3: state_.boundary = value; return receive();
        case 4: state_.transmit = value; return;
        case 5:
        case 6: state_.transmit_count = with_byte(state_.transmit_count, number - 5, value); return;
        case 7: return clear_interrupts(value);
        case 8:
        case 9:
            state_.remote_start = with_byte(state_.remote_start, number - 8, value);
            state_.remote_address = state_.remote_start;
            return;
        case 10:
        case 11: state_.remote_count = with_byte(state_.remote_count, number - 10, value); return;
        case 12: state_.receive_control = value & 0x3F; return;
        case 13: state_.transmit_control = value & 0x1F; return;
        case 14: state_.data_control = value & 0x7F; return;
        case 15: state_.mask = value & 0x7F; return;
        default: return;
    }
}

/// Drivers clear PRX and stop with frames in the ring (Linux after nine): on a wire of 10 Mb/s the next frame soon sets
/// it again. Here frames come many at once, and the next may wait for an answer to one of these. So PRX tells again,
/// about when that frame would have: not at once, or a driver that leaves reading to a process would never get there.
void Dp8390::clear_interrupts(uint8_t causes) {
    constexpr Duration time_of_a_frame = std::chrono::milliseconds(1);
    state_.interrupts = static_cast<uint8_t>(state_.interrupts & (~causes | ISR_RST));
    if (state_.reminder || !(causes & ISR_PRX) || !has_frames()) return;
    state_.reminder = clock_.now() + time_of_a_frame;
    reminder_.arm(*state_.reminder);
}

void Dp8390::remind() {
    state_.reminder.reset();
    if (has_frames()) state_.interrupts |= ISR_PRX;
    update_irq();
}

/// Drivers that only change the page write neither STP nor STA: the chip goes on as it was (10.3, CR).
void Dp8390::write_command(uint8_t value) {
    if (!(value & (CR_STP | CR_STA))) value |= state_.command & (CR_STP | CR_STA);
    state_.command = value & static_cast<uint8_t>(~CR_TXP);
    if (value & CR_STP) {
        state_.interrupts |= ISR_RST;
        return;
    }
    if (!(value & CR_STA)) return;
    state_.interrupts &= static_cast<uint8_t>(~ISR_RST);
    const uint8_t remote = value & CR_RD;
    if ((remote == CR_read || remote == CR_write) && state_.remote_count == 0) state_.interrupts |= ISR_RDC;
    if (value & CR_TXP) transmit();
    receive();
}

// ---- Memory and remote DMA -----------------------------------------------------------------------------------------

uint8_t Dp8390::load(uint16_t address) const {
    if (address < prom_.size()) return prom_[address];
    if (address < memory_base || address >= memory_base + state_.memory.size()) return 0xFF;
    return state_.memory[address - memory_base];
}

void Dp8390::store(uint16_t address, uint8_t value) {
    if (address >= memory_base && address < memory_base + state_.memory.size())
        state_.memory[address - memory_base] = value;
}

/// The address goes round in the ring; at the end of the count, that is told.
void Dp8390::advance_remote() {
    state_.remote_address = static_cast<uint16_t>(state_.remote_address + element());
    if (state_.remote_address == state_.stop * page) state_.remote_address = static_cast<uint16_t>(state_.start * page);
    state_.remote_count =
        state_.remote_count <= element() ? uint16_t{0} : static_cast<uint16_t>(state_.remote_count - element());
    if (state_.remote_count == 0) state_.interrupts |= ISR_RDC;
}

uint16_t Dp8390::read_data() {
    if ((state_.command & CR_RD) != CR_read || state_.remote_count == 0) return element() == 2 ? 0xFFFF : 0xFF;
    uint16_t value = load(state_.remote_address);
    if (element() == 2)
        value = static_cast<uint16_t>(value | load(static_cast<uint16_t>(state_.remote_address + 1)) << 8);
    advance_remote();
    return value;
}

void Dp8390::write_data(uint16_t value) {
    if ((state_.command & CR_RD) != CR_write || state_.remote_count == 0) return;
    store(state_.remote_address, static_cast<uint8_t>(value));
    if (element() == 2) store(static_cast<uint16_t>(state_.remote_address + 1), static_cast<uint8_t>(value >> 8));
    advance_remote();
}

// ---- Frames --------------------------------------------------------------------------------------------------------

void Dp8390::transmit() {
    std::vector<uint8_t> frame(state_.transmit_count);
    for (size_t i = 0; i < frame.size(); ++i) frame[i] = load(static_cast<uint16_t>(state_.transmit * page + i));
    if (!(state_.transmit_control & TCR_LB)) port_.link->send(frame);
    state_.transmit_status = TSR_PTX;
    state_.interrupts |= ISR_PTX;
}

/// Takes what the link has; what the ring has no room for stays there.
void Dp8390::receive() {
    NetworkLink& link = *port_.link;
    while (!link.front().empty()) {
        const auto frame = link.front();
        const bool runs = (state_.command & (CR_STP | CR_STA)) == CR_STA && !(state_.transmit_control & TCR_LB);
        if (runs && accepts(frame)) {
            if (state_.receive_control & RCR_MON) {
                if (state_.missed < 0xFF) ++state_.missed;
            } else if (!receive_frame(frame)) {
                return;
            }
        }
        link.pop();
    }
}

bool Dp8390::accepts(std::span<const uint8_t> frame) const {
    constexpr size_t longest = 1518;
    if (frame.size() > longest) return false;
    if (is_broadcast(frame)) return state_.receive_control & RCR_AB;
    if (frame[0] & 1) {
        const uint32_t index = multicast_hash(frame.first<6>()) >> 26;
        return (state_.receive_control & RCR_AM) && (state_.multicast[index / 8] >> (index % 8) & 1);
    }
    return (state_.receive_control & RCR_PRO) || std::ranges::equal(frame.first(6), state_.physical);
}

/// Puts a frame into the ring of pages behind a header of four bytes (6.1). False: there is no room now.
bool Dp8390::receive_frame(std::span<const uint8_t> frame) {
    constexpr size_t header = 4, crc_size = 4;
    std::vector<uint8_t> bytes(frame.begin(), frame.end());
    bytes.resize(std::max(bytes.size(), ethernet_least));
    const uint32_t crc = ethernet_crc(bytes);
    for (unsigned i = 0; i < crc_size; ++i) bytes.push_back(static_cast<uint8_t>(crc >> (8 * i)));
    const unsigned pages = static_cast<unsigned>((header + bytes.size() + page - 1) / page);
    const unsigned start = state_.start, stop = state_.stop, current = state_.current;
    const std::optional<unsigned> free = free_pages();
    // A ring that cannot hold the frame, or pointers that are not in it, lose the frame.
    if (!free || pages >= stop - start) return true;
    if (pages >= *free) return false;
    unsigned next = current + pages;
    if (next >= stop) next -= stop - start;
    state_.receive_status = static_cast<uint8_t>(RSR_PRX | (frame[0] & 1 ? RSR_PHY : 0));
    const size_t count = bytes.size();
    const std::array<uint8_t, header> head{state_.receive_status, static_cast<uint8_t>(next),
                                           static_cast<uint8_t>(count), static_cast<uint8_t>(count >> 8)};
    bytes.insert(bytes.begin(), head.begin(), head.end());
    size_t at = current * page;
    for (const uint8_t byte : bytes) {
        store(static_cast<uint16_t>(at), byte);
        if (++at == stop * page) at = start * page;
    }
    state_.current = static_cast<uint8_t>(next);
    state_.interrupts |= ISR_PRX;
    return true;
}

/// Pages from CURR to BNRY, all of the ring where that holds nothing; none when the pointers are not in it.
std::optional<unsigned> Dp8390::free_pages() const {
    const unsigned start = state_.start, stop = state_.stop, current = state_.current;
    if (start >= stop || current < start || current >= stop) return std::nullopt;
    // Drivers set BNRY to one page before that they read next. Where that is the first of the ring, many (Linux's 8390)
    // do not go round: the page before the ring means its last.
    const unsigned boundary = state_.boundary + 1u == start ? stop - 1 : state_.boundary;
    const unsigned ring = stop - start;
    return boundary < start || boundary >= stop || boundary == current ? ring : (boundary + ring - current) % ring;
}

bool Dp8390::has_frames() const {
    const std::optional<unsigned> free = free_pages();
    return free && *free + 1 < unsigned{state_.stop} - state_.start;
}

Result<void> Dp8390::validate(const Dp8390State& staged) {
    const bool good = !(staged.command & CR_TXP) && !(staged.mask & 0x80) && !(staged.receive_control & 0xC0) &&
                      !(staged.transmit_control & 0xE0) && !(staged.data_control & 0x80);
    if (!good) return fail("the saved state of the DP8390 cannot be");
    return {};
}

void Dp8390::after_load() {
    if (state_.reminder) {
        reminder_.arm(*state_.reminder);
    } else {
        reminder_.cancel();
    }
    update_irq();
}

}  // namespace viv
