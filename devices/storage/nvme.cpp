#include "devices/storage/nvme.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace viv {
namespace {

using namespace nvme;

constexpr PciIdentity identity{
    .vendor = 0x1234, .device = 0x4E56, .class_code = 0x010802, .revision = 0x01, .interrupt_pin = 1};
constexpr unsigned registers_bar = 0, vectors_bar = 4;
constexpr Duration moment = std::chrono::microseconds(10);
constexpr uint64_t command_size = 64, completion_size = 16;
constexpr uint64_t least_cost = 4096;  // of a command, against the budget
constexpr uint64_t page_offset = page_size - 1;

uint64_t with_half(uint64_t old, unsigned shift, uint32_t value, uint32_t mask) {
    const uint64_t wide = uint64_t{mask} << shift;
    return (old & ~wide) | ((uint64_t{value} << shift) & wide);
}

uint32_t low(uint64_t value) {
    return static_cast<uint32_t>(value);
}

uint32_t high(uint64_t value) {
    return static_cast<uint32_t>(value >> 32);
}

template <class Queue>
bool empty(const Queue& queue) {
    return queue.head == queue.tail;
}

/// One entry stays free, or a full queue would look empty.
uint32_t room(const NvmeCompletionQueue& queue) {
    return (queue.head + queue.size - queue.tail - 1u) % queue.size;
}

template <class Queue>
bool plausible(const Queue& queue) {
    if (queue.size == 0) return queue.base == 0 && queue.head == 0 && queue.tail == 0;
    return queue.size >= 2 && queue.size <= 4096 && queue.head < queue.size && queue.tail < queue.size &&
           !(queue.base & page_offset);
}

}  // namespace

Nvme::Nvme(std::unique_ptr<DiskDrive> disk, Clock& clock)
    : disk_(std::move(disk)), pci_(identity, state_.pci), clock_(clock), timer_(clock, [this](VirtualTime) { run(); }) {
    pci_.add_memory_bar(registers_bar, window_size, *this, PciFunction::BarKind::memory_64);
    pci_.add_msix(queue_count, vectors_bar);
    // Commands that waited for the permission to read them go on; INTx# and messages change places.
    pci_.on_config_write([this](unsigned, unsigned) {
        if (!pci_.dma()) settle();
        run();
    });
    disk_->queue().on_told([this] { run(); });
    reset(ResetKind::power_on);
}

void Nvme::reset(ResetKind /*kind*/) {
    settle();
    state_ = {};
    state_.session.features[std::to_underlying(Feature::volatile_write_cache)] = 1;
    pci_.reset();
    timer_.cancel();
    update_irq();
}

// ---- Registers (section 3.1) ---------------------------------------------------------------------------------------

uint32_t Nvme::read_register(uint64_t offset) const {
    switch (offset) {
        case CAP: return capabilities_low;
        case CAP_HIGH: return capabilities_high;
        case VS: return version;
        case INTMS:
        case INTMC: return state_.session.masked;
        case CC: return state_.configuration;
        case CSTS: return state_.status;
        case AQA: return state_.admin_sizes;
        case ASQ: return low(state_.admin_submissions);
        case ASQ_HIGH: return high(state_.admin_submissions);
        case ACQ: return low(state_.admin_completions);
        case ACQ_HIGH: return high(state_.admin_completions);
        default: return 0;
    }
}

void Nvme::write_register(uint64_t offset, uint32_t value, uint32_t mask) {
    constexpr uint32_t whole = 0xFFFFFFFF;
    if (offset >= DOORBELLS) {
        if (mask == whole) ring((offset - DOORBELLS) / 4, value);
        return;
    }
    constexpr auto page_mask = ~static_cast<uint32_t>(page_offset);
    switch (offset) {
        case INTMS: state_.session.masked |= value & mask; return;
        case INTMC: state_.session.masked &= ~(value & mask); return;
        case CC: return configure(((state_.configuration & ~mask) | (value & mask)) & CC_writable);
        case AQA: state_.admin_sizes = ((state_.admin_sizes & ~mask) | (value & mask)) & 0x0FFF0FFF; return;
        case ASQ: state_.admin_submissions = with_half(state_.admin_submissions, 0, value, mask & page_mask); return;
        case ASQ_HIGH: state_.admin_submissions = with_half(state_.admin_submissions, 32, value, mask); return;
        case ACQ: state_.admin_completions = with_half(state_.admin_completions, 0, value, mask & page_mask); return;
        case ACQ_HIGH: state_.admin_completions = with_half(state_.admin_completions, 32, value, mask); return;
        default: return;
    }
}

uint64_t Nvme::read(Access access) {
    uint64_t value = 0;
    for (unsigned i = 0; i < access.size; ++i) {
        const uint64_t at = access.offset + i;
        value |= (uint64_t{read_register(at & ~uint64_t{3})} >> (8 * (at & 3)) & 0xFF) << (8 * i);
    }
    return value;
}

void Nvme::write(Access access, uint64_t value) {
    // A register at a time, with the bytes of it that are written.
    for (unsigned done = 0; done < access.size;) {
        const uint64_t at = access.offset + done;
        const auto first = static_cast<unsigned>(at & 3);
        const unsigned bytes = std::min(4 - first, access.size - done);
        const auto mask = static_cast<uint32_t>((uint64_t{1} << (8 * bytes)) - 1) << (8 * first);
        write_register(at & ~uint64_t{3}, static_cast<uint32_t>(value >> (8 * done)) << (8 * first), mask);
        done += bytes;
    }
    run();
}

void Nvme::configure(uint32_t value) {
    const uint32_t before = std::exchange(state_.configuration, value);
    if (!(before & CC_EN) && (value & CC_EN)) enable();
    if ((before & CC_EN) && !(value & CC_EN)) disable();
    if (!(before & CC_SHN) && (value & CC_SHN)) {
        if (disk_->image().flush() != DiskStatus::ok) fail_controller();
        state_.status = (state_.status & ~CSTS_SHST) | CSTS_shutdown_complete;
    }
}

void Nvme::enable() {
    const uint32_t submissions = (state_.admin_sizes & 0xFFF) + 1, completions = (state_.admin_sizes >> 16 & 0xFFF) + 1;
    if ((state_.configuration & (CC_CSS | CC_MPS | CC_AMS)) || submissions < 2 || completions < 2) {
        return fail_controller();
    }
    state_.session.submissions[0] = {.base = state_.admin_submissions, .size = submissions};
    state_.session.completions[0] = {.base = state_.admin_completions, .size = completions, .interrupts = true};
    state_.status |= CSTS_RDY;
}

/// Controller Reset: the queues go, the admin queue's registers stay.
void Nvme::disable() {
    settle();
    state_.session = {};
    state_.session.features[std::to_underlying(Feature::volatile_write_cache)] = 1;
    state_.status = 0;
}

bool Nvme::running() const {
    return (state_.status & (CSTS_RDY | CSTS_CFS)) == CSTS_RDY;
}

/// Doorbells: of each queue pair the submissions' tail and the completions' head (3.1.24, 3.1.25).
void Nvme::ring(uint64_t index, uint32_t value) {
    if (!running()) return;
    const uint64_t pair = index / 2;
    const auto known = [&](const auto& queues) { return pair < queue_count && queues[pair].size != 0; };
    if (index % 2 == 0) {
        if (!known(state_.session.submissions)) return note_event(Event::invalid_doorbell);
        NvmeSubmissionQueue& queue = state_.session.submissions[pair];
        if (value >= queue.size) return note_event(Event::invalid_doorbell_value);
        queue.tail = static_cast<uint16_t>(value);
    } else {
        if (!known(state_.session.completions)) return note_event(Event::invalid_doorbell);
        NvmeCompletionQueue& queue = state_.session.completions[pair];
        const auto ahead = [&](uint32_t place) { return (place + queue.size - queue.head) % queue.size; };
        // The host cannot have taken more than there is.
        if (value >= queue.size || ahead(value) > ahead(queue.tail)) return note_event(Event::invalid_doorbell_value);
        queue.head = static_cast<uint16_t>(value);
    }
}

// ---- Queues --------------------------------------------------------------------------------------------------------

bool Nvme::can_step(unsigned index) const {
    const NvmeSubmissionQueue& queue = state_.session.submissions[index];
    if (queue.size == 0 || empty(queue)) return false;
    if (index != 0 && disk_->queue().full()) return false;
    return room(state_.session.completions[queue.completions]) > owed_[queue.completions];
}

bool Nvme::can_step() const {
    for (unsigned i = 0; i < queue_count; ++i) {
        if (can_step(i)) return true;
    }
    return false;
}

/// Carries out what waits; what would hold the machine for too long goes on a moment later.
void Nvme::run() {
    // What ends while commands are carried out is told of with them.
    if (std::exchange(running_now_, true)) return;
    uint64_t budget = bytes_at_once;
    GuestMemory* memory = pci_.dma();
    if (memory && running()) tell_events(*memory);
    const auto goes_on = [&] { return memory && running() && can_step(); };
    // Who drains wants an end.
    while (budget > 0 && !disk_->queue().draining() && goes_on()) {
        // One command of each queue in turn.
        for (unsigned i = 0; i < queue_count && budget > 0 && running(); ++i) {
            if (can_step(i)) step(i, *memory, budget);
        }
        if (!goes_on()) disk_->queue().submit();
    }
    disk_->queue().submit();
    if (goes_on()) {
        state_.resume = clock_.now() + moment;
        timer_.arm(*state_.resume);
    } else {
        state_.resume.reset();
        timer_.cancel();
    }
    running_now_ = false;
    update_irq();
}

void Nvme::step(unsigned index, GuestMemory& memory, uint64_t& budget) {
    NvmeSubmissionQueue& queue = state_.session.submissions[index];
    budget -= std::min(budget, least_cost);
    Command command;
    const Gpa at{queue.base + queue.head * command_size};
    if (!memory.read(at, std::as_writable_bytes(std::span(command.words)))) return fail_controller();
    queue.head = static_cast<uint16_t>((queue.head + 1u) % queue.size);
    constexpr uint32_t fused_or_sgl = 0xC300;
    Completion completion = Status::invalid_field;
    if (!(command.words[0] & fused_or_sgl)) {
        completion = index == 0 ? execute_admin(command, memory) : execute_io(index, command, memory, budget);
    }
    if (!completion.later) complete(index, command.identifier(), completion, memory);
}

/// Puts an entry into the completion queue of a submission queue (4.6); there is room.
void Nvme::complete(unsigned index, uint16_t identifier, const Completion& completion, GuestMemory& memory) {
    const NvmeSubmissionQueue& submissions = state_.session.submissions[index];
    NvmeCompletionQueue& queue = state_.session.completions[submissions.completions];
    const std::array<uint32_t, 4> entry{
        completion.result, 0, uint32_t{index} << 16 | submissions.head,
        uint32_t{std::to_underlying(completion.status)} << 17 | (queue.phase ? 1u << 16 : 0) | identifier};
    const Gpa at{queue.base + queue.tail * completion_size};
    if (!memory.write(at, std::as_bytes(std::span(entry)))) return fail_controller();
    queue.tail = static_cast<uint16_t>((queue.tail + 1u) % queue.size);
    if (queue.tail == 0) queue.phase = !queue.phase;
    if (queue.interrupts) told_[queue.vector] = true;
}

// ---- Asynchronous events (5.2) -------------------------------------------------------------------------------------

void Nvme::note_event(Event event) {
    state_.session.events = static_cast<uint8_t>(state_.session.events | 1u << std::to_underlying(event));
}

void Nvme::tell_events(GuestMemory& memory) {
    NvmeSession& session = state_.session;
    if (session.events == 0 || session.events_held || session.event_requests.empty()) return;
    if (room(session.completions[0]) == 0) return;
    const auto code = static_cast<uint32_t>(std::countr_zero(session.events));
    const uint16_t identifier = session.event_requests.front();
    session.event_requests.erase(session.event_requests.begin());
    session.events = 0;
    session.events_held = true;
    constexpr uint32_t error_log = 0x01, error_type = 0x00;
    complete(0, identifier, {Status::success, error_log << 16 | code << 8 | error_type}, memory);
}

// ---- Interrupts (7.5) ----------------------------------------------------------------------------------------------

/// INTx# is up while a queue that interrupts has entries the host has not taken; messages go for each new entry.
void Nvme::update_irq() {
    bool level = false;
    for (const NvmeCompletionQueue& queue : state_.session.completions) {
        const bool masked = queue.vector < 32 && (state_.session.masked >> queue.vector & 1);
        level = level || (queue.size != 0 && queue.interrupts && !empty(queue) && !masked);
    }
    pci_.set_interrupt(level);
    for (unsigned vector = 0; vector < queue_count; ++vector) {
        if (std::exchange(told_[vector], false)) pci_.notify(vector);
    }
}

// ---- State ---------------------------------------------------------------------------------------------------------

Result<void> Nvme::validate(const NvmeState& staged) const {
    const NvmeSession& session = staged.session;
    bool good = !(staged.configuration & ~CC_writable) && !(staged.status & ~(CSTS_RDY | CSTS_CFS | CSTS_SHST)) &&
                !(staged.admin_sizes & ~uint32_t{0x0FFF0FFF}) && !(staged.admin_submissions & page_offset) &&
                !(staged.admin_completions & page_offset) && session.event_requests.size() <= most_event_requests &&
                session.events < 4;
    for (const NvmeCompletionQueue& queue : session.completions) {
        good = good && plausible(queue) && queue.vector < queue_count;
    }
    for (const NvmeSubmissionQueue& queue : session.submissions) {
        good = good && plausible(queue) && queue.completions < queue_count &&
               (queue.size == 0 || session.completions[queue.completions].size != 0);
    }
    const bool ready = (staged.status & CSTS_RDY) != 0;
    good = good && (!ready || (session.submissions[0].size != 0 && session.submissions[0].completions == 0));
    if (!good) return fail("the saved state of the NVMe controller cannot be");
    return pci_.validate(staged.pci);
}

void Nvme::after_load() {
    pci_.after_load();
    timer_.cancel();
    if (state_.resume) timer_.arm(*state_.resume);
}

Result<std::unique_ptr<Device>> make_nvme(DeviceContext& context) {
    DriveRegistry& registered = *TRY(context.need<DriveRegistry>("the list of drives"));
    const auto reg = context.node.cells("reg");
    auto serial = context.node.string("viv,serial").value_or(fmt::format("VIVNVME{:02X}", reg.empty() ? 0 : reg[0]));
    auto image = TRY(open_disk_queue(context));
    auto controller =
        std::make_unique<Nvme>(std::make_unique<DiskDrive>(std::move(image), std::move(serial)), context.clock);
    registered.add(controller->disk());
    TRY(controller->pci().attach(context));
    return controller;
}

}  // namespace viv
