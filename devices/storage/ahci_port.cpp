#include "devices/storage/ahci_port.hpp"

#include <algorithm>
#include <utility>

namespace viv {
namespace {

using namespace ahci;

using Phase = AtaDeviceState::Phase;

constexpr uint8_t fis_is_command = 0x80;
constexpr uint8_t fis_interrupt = 0x40, fis_to_memory = 0x20, fis_auto_activate = 0x80;
constexpr uint8_t control_reset = 0x04;  // SRST
constexpr uint8_t command_execute_diagnostic = 0x90;
constexpr uint64_t most_bytes = 256u << 20;  // of a command
constexpr uint64_t least_cost = 4096;        // of a command, against the budget
constexpr size_t piece_size = 65536;

uint32_t low(uint64_t value) {
    return static_cast<uint32_t>(value);
}

uint32_t high(uint64_t value) {
    return static_cast<uint32_t>(value >> 32);
}

uint64_t with_half(uint64_t old, unsigned shift, uint32_t value, uint32_t mask) {
    const uint64_t wide = uint64_t{mask} << shift;
    return (old & ~wide) | ((uint64_t{value} << shift) & wide);
}

}  // namespace

void AhciPort::attach(std::unique_ptr<AtaDevice> drive) {
    drive_ = std::move(drive);
    queue_ = drive_->queue();
}

void AhciPort::settle() {
    if (queue_) queue_->drain();
}

// ---- Registers -----------------------------------------------------------------------------------------------------

uint32_t AhciPort::interrupts() const {
    uint32_t bits = state_->interrupts;
    if (state_->errors & DIAG_X) bits |= PCS;
    if (state_->errors & DIAG_N) bits |= PRCS;
    return bits;
}

uint32_t AhciPort::read(uint64_t offset) const {
    const AhciPortState& s = *state_;
    switch (offset) {
        case PxCLB: return low(s.command_list);
        case PxCLBU: return high(s.command_list);
        case PxFB: return low(s.received);
        case PxFBU: return high(s.received);
        case PxIS: return interrupts();
        case PxIE: return s.enabled;
        case PxCMD:
            return s.command | (s.command & ST ? CR : 0) | (s.command & FRE ? FR : 0) |
                   uint32_t{s.slot} << current_slot_shift;
        case PxTFD: return s.task_file;
        case PxSIG: return s.signature;
        case PxSSTS:
            if (s.speed == 0) return (s.control & DET) == DET_offline ? DET_offline : 0;
            return IPM_active | uint32_t{s.speed} << 4 | DET_established;
        case PxSCTL: return s.control;
        case PxSERR: return s.errors;
        case PxSACT: return s.active;
        case PxCI: return s.issued;
        default: return 0;
    }
}

void AhciPort::write(uint64_t offset, uint32_t value, uint32_t mask) {
    AhciPortState& s = *state_;
    const auto merged = [&](uint32_t old) { return (old & ~mask) | (value & mask); };
    switch (offset) {
        case PxCLB: s.command_list = with_half(s.command_list, 0, value, mask & ~uint32_t{0x3FF}); return;
        case PxCLBU: s.command_list = with_half(s.command_list, 32, value, mask); return;
        case PxFB: s.received = with_half(s.received, 0, value, mask & ~uint32_t{0xFF}); return;
        case PxFBU: s.received = with_half(s.received, 32, value, mask); return;
        case PxIS: s.interrupts &= ~(value & mask); return;
        case PxIE: s.enabled = merged(s.enabled) & port_interrupts; return;
        case PxCMD: return write_command(merged(s.command));
        case PxSCTL: return write_control(merged(s.control) & writable_control);
        case PxSERR: s.errors &= ~(value & mask); return;
        case PxSACT:
            if (s.command & ST) s.active |= value & mask;
            return;
        case PxCI:
            if (s.command & ST) s.issued |= value & mask;
            return;
        default: return;
    }
}

void AhciPort::write_command(uint32_t value) {
    AhciPortState& s = *state_;
    if ((s.command & ST) && !(value & ST)) settle();
    if (value & CLO) s.task_file &= ~uint32_t{ata::status_busy | ata::status_data_request};
    const uint32_t before = std::exchange(s.command, (value & writable_command) | POD);
    if ((before & ST) && !(value & ST)) stop();
    update_link();
}

void AhciPort::write_control(uint32_t value) {
    AhciPortState& s = *state_;
    const uint32_t before = std::exchange(s.control, value);
    if ((before & DET) != (value & DET)) update_link();
}

/// The link is up when the drive may spin and nobody holds it down.
void AhciPort::update_link() {
    AhciPortState& s = *state_;
    const uint32_t wanted = s.control & DET;
    const bool up = drive_ && (s.command & SUD) && wanted != DET_reset && wanted != DET_offline;
    if (up == (s.speed != 0)) return;
    settle();
    if (up) return connect();
    s.speed = 0;
    s.task_file = no_task_file;
    s.greeting = false;
    s.errors |= DIAG_N;
}

/// COMRESET, and the drive's answer.
void AhciPort::connect() {
    AhciPortState& s = *state_;
    settle();
    constexpr uint8_t fastest = 2;
    const auto limit = static_cast<uint8_t>((s.control & SPD_limit) >> 4);
    s.speed = limit == 0 ? fastest : std::min(limit, fastest);
    s.errors |= DIAG_X | DIAG_N;
    s.held = false;
    const AtaDeviceState before = std::exchange(s.drive, {});
    drive_->hardware_reset(before);
    const AtaTaskFile& task = s.drive.task;
    s.signature =
        uint32_t{task.lba_high} << 24 | uint32_t{task.lba_mid} << 16 | uint32_t{task.lba_low} << 8 | task.count;
    set_task_file(s.drive.status);
    s.greeting = true;
}

/// ST falls: what was not carried out is forgotten.
void AhciPort::stop() {
    state_->issued = state_->active = 0;
    state_->slot = 0;
    state_->halted = false;
}

void AhciPort::reset() {
    settle();
    AhciPortState fresh;
    fresh.command_list = state_->command_list;
    fresh.received = state_->received;
    fresh.drive = std::move(state_->drive);
    *state_ = std::move(fresh);
}

void AhciPort::halt(uint32_t reason) {
    state_->interrupts |= reason;
    state_->halted = true;
}

void AhciPort::set_task_file(uint8_t status) {
    state_->task_file = uint32_t{state_->drive.error} << 8 | status;
}

Result<void> AhciPort::validate(const AhciPortState& staged) {
    const bool good = !(staged.command_list & 0x3FF) && !(staged.received & 0xFF) &&
                      !(staged.interrupts & ~clearable_interrupts) && !(staged.enabled & ~port_interrupts) &&
                      !(staged.command & ~(writable_command | POD)) && (staged.command & POD) &&
                      staged.task_file <= 0xFFFF && !(staged.control & ~writable_control) &&
                      !(staged.errors & ~(DIAG_N | DIAG_X)) && staged.slot < slot_count && staged.speed <= 2;
    if (!good) return fail("the saved state of an AHCI port cannot be");
    return AtaDevice::validate(staged.drive);
}

// ---- Commands ------------------------------------------------------------------------------------------------------

bool AhciPort::has_work() const {
    const AhciPortState& s = *state_;
    if (s.greeting && (s.command & FRE)) return true;
    if (queue_ && queue_->full()) return false;
    constexpr uint32_t not_now = ata::status_busy | ata::status_data_request;
    return (s.command & ST) && s.issued != 0 && !s.halted && s.speed != 0 && !(s.task_file & not_now);
}

void AhciPort::run(GuestMemory& memory, uint64_t& budget) {
    AhciPortState& s = *state_;
    if (s.greeting && (s.command & FRE)) greet(memory);
    // Who drains wants an end.
    while (budget > 0 && has_work() && !(queue_ && queue_->draining())) {
        // Slots take turns.
        unsigned slot = s.slot;
        do {
            slot = (slot + 1) % slot_count;
        } while (!(s.issued >> slot & 1));
        s.slot = static_cast<uint8_t>(slot);
        execute(slot, memory, budget);
    }
    if (queue_) queue_->submit();
}

void AhciPort::execute(unsigned slot, GuestMemory& memory, uint64_t& budget) {
    budget -= std::min(budget, least_cost);
    std::array<uint32_t, header_size / 4> words{};
    const Gpa at{state_->command_list + uint64_t{slot} * header_size};
    if (!memory.read(at, std::as_writable_bytes(std::span(words)))) return halt(HBFS);
    const Header header{
        .flags = words[0] & 0xFFFF,
        .entries = words[0] >> 16,
        .table = (uint64_t{words[3]} << 32 | words[2]) & ~uint64_t{0x7F},
    };
    RegisterFis fis{};
    if (!memory.read(Gpa{header.table}, std::as_writable_bytes(std::span(fis)))) return halt(HBFS);
    // The drive takes no others.
    if (fis[0] != std::to_underlying(FisType::host_to_device)) return halt(IFS);
    if (!(fis[1] & fis_is_command)) return execute_control(slot, fis[15], memory);
    execute_command(slot, fis, header, memory, budget);
}

/// A FIS that carries the device control register. Only SRST of it matters.
void AhciPort::execute_control(unsigned slot, uint8_t control, GuestMemory& memory) {
    AhciPortState& s = *state_;
    settle();
    s.issued &= ~(uint32_t{1} << slot);
    if (control & control_reset) {
        drive_->hold_in_reset();
        s.held = true;
        s.task_file = 0;
    } else if (std::exchange(s.held, false)) {
        drive_->software_reset();
        send_register(memory, false);
    }
}

void AhciPort::load_registers(const RegisterFis& fis) {
    const AtaTaskFile now{
        .features = fis[3], .count = fis[12], .lba_low = fis[4], .lba_mid = fis[5], .lba_high = fis[6]};
    const AtaTaskFile before{
        .features = fis[11], .count = fis[13], .lba_low = fis[8], .lba_mid = fis[9], .lba_high = fis[10]};
    drive_->load_registers(now, before, fis[7]);
}

void AhciPort::execute_command(unsigned slot, const RegisterFis& fis, const Header& header, GuestMemory& memory,
                               uint64_t& budget) {
    if (queue_) {
        load_registers(fis);
        if (!state_->held && begin(slot, fis, header, memory, budget)) return;
        // All others find the drive at rest. One that has failed meanwhile comes first.
        settle();
        if (state_->halted) return;
    }
    run_command(slot, fis, header, memory, budget);
}

// ---- Commands beside the machine -----------------------------------------------------------------------------------

bool AhciPort::begin(unsigned slot, const RegisterFis& fis, const Header& header, GuestMemory& memory,
                     uint64_t& budget) {
    AhciPortState& s = *state_;
    const auto wanted = drive_->transfer_of(fis[2]);
    if (!wanted) return false;
    DiskRequest request{
        .durable = wanted->durable, .offset = wanted->offset, .length = wanted->length, .memory = &memory};
    if (wanted->kind == AtaTransfer::Kind::flush) {
        settle();
        if (s.halted) return true;
        request.kind = DiskRequest::Kind::flush;
        load_registers(fis);
        drive_->begin_transfer(fis[2]);
        s.task_file |= ata::status_busy;
    } else {
        const bool reads = wanted->kind == AtaTransfer::Kind::read;
        request.kind = reads ? DiskRequest::Kind::read : DiskRequest::Kind::write;
        if (!find_pieces(header, reads, request, wanted->length)) return false;
        s.issued &= ~(uint32_t{1} << slot);
        drive_->begin_transfer(fis[2]);
        send_dma_setup(memory, wanted->tag, reads, wanted->length);
    }
    budget -= std::min(budget, wanted->length);
    queue_->start(std::move(request), [this, slot, fis, header, &memory, transfer = *wanted](DiskStatus status) {
        end(slot, fis, header, memory, transfer, status);
    });
    return true;
}

/// The guest memory of a queued command's data. False when that is too little, too scattered, or not to be had.
bool AhciPort::find_pieces(const Header& header, bool reads, DiskRequest& request, uint64_t bytes) {
    constexpr uint32_t most_pieces = 512;
    const auto intent = reads ? GuestMemory::Intent::write : GuestMemory::Intent::read;
    uint64_t table = header.table + prdt_at;
    for (uint32_t i = 0; bytes > 0; ++i, table += prd_size) {
        std::array<uint32_t, prd_size / 4> entry{};
        if (i == header.entries || i == most_pieces) return false;
        if (!request.memory->read(Gpa{table}, std::as_writable_bytes(std::span(entry)))) return false;
        const Gpa base{(uint64_t{entry[1]} << 32 | entry[0]) & ~uint64_t{1}};
        const uint64_t size = std::min<uint64_t>(((entry[3] & 0x3FFFFF) | 1) + 1, bytes);
        if ((entry[3] & prd_interrupt) || request.memory->window(base, size, intent).empty()) return false;
        request.pieces.push_back({base, size});
        bytes -= size;
    }
    return true;
}

void AhciPort::end(unsigned slot, const RegisterFis& fis, const Header& header, GuestMemory& memory,
                   const AtaTransfer& transfer, DiskStatus status) {
    AhciPortState& s = *state_;
    const bool flushes = transfer.kind == AtaTransfer::Kind::flush;
    if (flushes) s.task_file &= ~uint32_t{ata::status_busy};
    // After an error the drive is silent until the driver has asked for the reason.
    if (s.halted) return;
    if (status != DiskStatus::ok && transfer.kind == AtaTransfer::Kind::read) {
        uint64_t budget = 0;
        return run_command(slot, fis, header, memory, budget);
    }
    if (flushes || status != DiskStatus::ok) {
        load_registers(fis);
        drive_->end_transfer(fis[2], status);
    }
    if (!flushes) return send_device_bits(memory, transfer.tag);
    send_register(memory, drive_->take_interrupt());
    if (!(s.task_file & ata::status_error)) s.issued &= ~(uint32_t{1} << slot);
}

// ---- Commands within the access ------------------------------------------------------------------------------------

void AhciPort::run_command(unsigned slot, const RegisterFis& fis, const Header& header, GuestMemory& memory,
                           uint64_t& budget) {
    AhciPortState& s = *state_;
    const uint32_t bit = uint32_t{1} << slot;
    load_registers(fis);
    if (s.held || !drive_->write_command(fis[2])) {
        // Nobody answers before a reset.
        s.task_file |= ata::status_busy;
        return;
    }
    bool interrupt = false;
    if (fis[2] == command_execute_diagnostic) {
        drive_->diagnose();
        interrupt = true;
    }
    const auto tag = drive_->queued_tag();
    if (tag) {
        // The drive lets go of the port, and asks for the data when it likes: at once.
        s.issued &= ~bit;
        if (drive_->block_left() > 0) {
            const bool to_memory = s.drive.phase == Phase::data_in;
            const uint64_t sectors = s.drive.remaining + (to_memory ? s.drive.buffer.size() / 512 : 0);
            send_dma_setup(memory, *tag, to_memory, sectors * 512);
        }
    }
    Cursor cursor{.table = header.table + prdt_at, .entries = header.entries};
    bool ended_by_pio = false;
    const Moved moved = move_data(header, cursor, memory, ended_by_pio);
    budget -= std::min(budget, cursor.moved);
    // PRDBC is of commands that are not queued.
    if (!tag) memory.store(Gpa{s.command_list + uint64_t{slot} * header_size + 4}, low(cursor.moved));
    if (moved == Moved::halted) return set_task_file(s.drive.status);
    if (tag) return send_device_bits(memory, *tag);
    interrupt = drive_->take_interrupt() || interrupt;
    if (interrupt || !ended_by_pio) send_register(memory, interrupt);
    if (!(s.task_file & ata::status_error)) s.issued &= ~bit;
}

AhciPort::Moved AhciPort::move_data(const Header& header, Cursor& cursor, GuestMemory& memory, bool& ended_by_pio) {
    const AtaDeviceState& drive = state_->drive;
    while (const size_t bytes = drive_->block_left()) {
        const bool to_memory = drive.phase == Phase::data_in;
        const bool by_pio = !drive.dma;
        const bool interrupt = drive_->take_interrupt();
        const bool packet = drive.packet == AtaDeviceState::Packet::command && (header.flags & header_packet);
        const bool good = packet ? give_packet(header, memory) : move_block(cursor, memory, bytes, to_memory);
        if (!good) return Moved::halted;
        ended_by_pio = by_pio && to_memory && drive.phase == Phase::idle && !(drive.status & ata::status_error);
        if (by_pio) send_pio_setup(memory, to_memory, interrupt, bytes);
    }
    return Moved::all;
}

bool AhciPort::give_packet(const Header& header, GuestMemory& memory) {
    std::array<std::byte, 16> packet{};
    if (!memory.read(Gpa{header.table + packet_at}, packet)) {
        halt(HBFS);
        return false;
    }
    drive_->take_block(std::span(packet).first(std::min(packet.size(), drive_->block_left())));
    return true;
}

/// False, and the port has halted, when there is no more memory for it.
bool AhciPort::move_block(Cursor& cursor, GuestMemory& memory, size_t bytes, bool to_memory) {
    const auto halt_with = [this](uint32_t reason) {
        halt(reason);
        return false;
    };
    scratch_.resize(piece_size);
    while (bytes > 0) {
        if (cursor.left == 0) {
            if (cursor.entries == 0) return halt_with(OFS);
            std::array<uint32_t, prd_size / 4> entry{};
            if (!memory.read(Gpa{cursor.table}, std::as_writable_bytes(std::span(entry)))) return halt_with(HBFS);
            cursor.table += prd_size;
            --cursor.entries;
            cursor.base = (uint64_t{entry[1]} << 32 | entry[0]) & ~uint64_t{1};
            cursor.left = ((entry[3] & 0x3FFFFF) | 1) + 1;
            cursor.interrupts = (entry[3] & prd_interrupt) != 0;
        }
        // What is of odd length, as some answers of packet devices, ends within an entry.
        const auto piece = std::span(scratch_).first(std::min({bytes, size_t{cursor.left}, piece_size}));
        const Gpa at{cursor.base};
        if (to_memory) {
            drive_->give_block(piece);
            if (!memory.write(at, piece)) return halt_with(HBFS);
        } else {
            if (!memory.read(at, piece)) return halt_with(HBFS);
            drive_->take_block(piece);
        }
        cursor.base += piece.size();
        cursor.left -= static_cast<uint32_t>(piece.size());
        cursor.moved += piece.size();
        bytes -= piece.size();
        if (cursor.left == 0 && cursor.interrupts) state_->interrupts |= DPS;
        if (cursor.moved > most_bytes) return halt_with(HBDS);
    }
    return true;
}

// ---- Frames from the drive (AHCI 1.3.1, 4.2.1; Serial ATA 2.6, 10.3) -----------------------------------------------

void AhciPort::receive(GuestMemory& memory, uint64_t at, std::span<const uint8_t> fis) {
    if (!(state_->command & FRE)) return;
    if (!memory.write(Gpa{state_->received + at}, std::as_bytes(fis))) halt(HBFS);
}

namespace {

/// The registers as FISes have them, from byte 2 on.
template <size_t N>
void put_registers(std::array<uint8_t, N>& fis, const AtaDeviceState& drive, uint8_t status) {
    fis[2] = status;
    fis[3] = drive.error;
    fis[4] = drive.task.lba_low;
    fis[5] = drive.task.lba_mid;
    fis[6] = drive.task.lba_high;
    fis[7] = drive.device;
    fis[8] = drive.previous.lba_low;
    fis[9] = drive.previous.lba_mid;
    fis[10] = drive.previous.lba_high;
    fis[12] = drive.task.count;
    fis[13] = drive.previous.count;
}

}  // namespace

/// The signature, which the drive has sent before there was a place for it.
void AhciPort::greet(GuestMemory& memory) {
    state_->greeting = false;
    RegisterFis fis{std::to_underlying(FisType::device_to_host)};
    put_registers(fis, state_->drive, state_->drive.status);
    receive(memory, register_at, fis);
}

void AhciPort::send_register(GuestMemory& memory, bool interrupt) {
    const AtaDeviceState& drive = state_->drive;
    RegisterFis fis{std::to_underlying(FisType::device_to_host), interrupt ? fis_interrupt : uint8_t{0}};
    put_registers(fis, drive, drive.status);
    receive(memory, register_at, fis);
    set_task_file(drive.status);
    if (interrupt) state_->interrupts |= DHRS;
    if (drive.status & ata::status_error) halt(TFES);
}

void AhciPort::send_pio_setup(GuestMemory& memory, bool to_memory, bool interrupt, size_t bytes) {
    const AtaDeviceState& drive = state_->drive;
    const bool last = to_memory && drive.phase == Phase::idle && !(drive.status & ata::status_error);
    const auto end_status =
        static_cast<uint8_t>(last ? drive.status : ata::status_busy | ata::status_ready | ata::status_seek_complete);
    RegisterFis fis{std::to_underlying(FisType::pio_setup),
                    static_cast<uint8_t>((to_memory ? fis_to_memory : 0) | (interrupt ? fis_interrupt : 0))};
    put_registers(fis, drive, ata::status_ready | ata::status_seek_complete | ata::status_data_request);
    fis[15] = end_status;
    fis[16] = static_cast<uint8_t>(bytes);
    fis[17] = static_cast<uint8_t>(bytes >> 8);
    receive(memory, pio_setup_at, fis);
    set_task_file(end_status);
    if (interrupt) state_->interrupts |= PSS;
}

void AhciPort::send_dma_setup(GuestMemory& memory, uint8_t tag, bool to_memory, uint64_t bytes) {
    std::array<uint8_t, 28> fis{std::to_underlying(FisType::dma_setup), to_memory ? fis_to_memory : fis_auto_activate};
    fis[4] = tag;
    for (size_t i = 0; i < 4; ++i) fis[20 + i] = static_cast<uint8_t>(bytes >> (8 * i));
    receive(memory, dma_setup_at, fis);
}

/// The end of a queued command; one that failed stays active.
void AhciPort::send_device_bits(GuestMemory& memory, uint8_t tag) {
    const AtaDeviceState& drive = state_->drive;
    const bool failed = (drive.status & ata::status_error) != 0;
    constexpr uint8_t told = 0x77;
    std::array<uint8_t, 8> fis{std::to_underlying(FisType::set_device_bits), fis_interrupt,
                               static_cast<uint8_t>(drive.status & told), drive.error};
    const uint32_t done = failed ? 0 : uint32_t{1} << tag;
    for (size_t i = 0; i < 4; ++i) fis[4 + i] = static_cast<uint8_t>(done >> (8 * i));
    static_cast<void>(drive_->take_interrupt());
    receive(memory, device_bits_at, fis);
    state_->active &= ~done;
    set_task_file(static_cast<uint8_t>(drive.status & told));
    state_->interrupts |= SDBS;
    if (failed) halt(TFES);
}

}  // namespace viv
