#include "devices/storage/i82077aa.hpp"

#include <algorithm>
#include <utility>

#include "devices/storage/i82077aa_command.hpp"

namespace viv {
namespace {

constexpr uint8_t dor_reset_inactive = 0x04;
constexpr uint8_t dor_dma_gate = 0x08;
constexpr uint8_t dsr_software_reset = 0x80;
constexpr uint8_t data_rate_mask = 0x03;
constexpr uint8_t msr_ready = 0x80;
constexpr uint8_t msr_to_cpu = 0x40;
constexpr uint8_t msr_non_dma = 0x20;
constexpr uint8_t msr_busy = 0x10;
constexpr uint8_t configure_polling_off = 0x10;
constexpr uint8_t configure_default = 0x20;
constexpr uint8_t configure_lockable = 0x2F;

// Long enough that a driver has left its last OUT, short enough that nobody waits: about a tenth of the real times.
constexpr Duration reset_time = std::chrono::microseconds(20);

using Phase = I82077aaState::Phase;

}  // namespace

I82077aa::I82077aa(Clock& clock, IrqLine irq, DmaController& dma, unsigned dma_channel)
    : clock_(clock),
      irq_(std::move(irq)),
      dma_(dma),
      dma_channel_(dma_channel),
      step_timer_(clock, [this](VirtualTime) { take_step(); }),
      seek_timer_(clock, [this](VirtualTime deadline) { finish_seeks(deadline); }) {
    dma_.on_ready(dma_channel_, [this] {
        if (!std::exchange(state_.transfer.awaits_dma, false)) return;
        schedule(std::chrono::microseconds(1));
        update();
    });
}

void I82077aa::reset(ResetKind kind) {
    State fresh;
    if (kind == ResetKind::hard) fresh.drives = state_.drives;
    state_ = std::move(fresh);
    update();
}

uint8_t I82077aa::read_register(uint8_t offset) {
    switch (static_cast<Register>(offset)) {
        case Register::sra:
        case Register::srb: return 0xFF;  // not driven in AT mode
        case Register::dor: return state_.dor;
        case Register::tdr: return state_.tdr | 0xFC;
        case Register::msr: return main_status();
        case Register::fifo: return read_fifo();
        case Register::dir: {
            const FloppyDrive* selected = drive(state_.dor & 3);
            return selected && selected->change_line() ? 0xFF : 0x7F;
        }
    }
    return 0xFF;
}

void I82077aa::write_register(uint8_t offset, uint8_t value) {
    switch (static_cast<Register>(offset)) {
        case Register::sra:
        case Register::srb: return;
        case Register::dor: write_dor(value); break;
        case Register::tdr: state_.tdr = value & 3; break;
        case Register::dsr:
            state_.data_rate = value & data_rate_mask;
            if ((value & dsr_software_reset) != 0) software_reset();
            break;
        case Register::fifo: write_fifo(value); break;
        case Register::ccr: state_.data_rate = value & data_rate_mask; break;
        default: return;
    }
    update();
}

/// Data sheet, 2.1.4.
uint8_t I82077aa::main_status() const {
    if (state_.phase == Phase::reset) return 0;
    uint8_t status = 0;
    for (unsigned unit = 0; unit < state_.seeks.size(); ++unit) {
        if (state_.seeks[unit].end) status |= static_cast<uint8_t>(1u << unit);
    }
    switch (state_.phase) {
        case Phase::reset: break;
        case Phase::command:
            status |= msr_ready;
            if (state_.command_length > 0) status |= msr_busy;
            break;
        case Phase::execution: {
            status |= msr_busy;
            if (!non_dma()) break;
            status |= msr_non_dma;
            if (state_.transfer.available > 0) status |= msr_ready;
            const auto form = floppy_command_form(state_.command[0]);
            if (form && form->command == FloppyCommand::read_data) status |= msr_to_cpu;
            if (form && form->command == FloppyCommand::read_deleted_data) status |= msr_to_cpu;
            if (form && form->command == FloppyCommand::read_track) status |= msr_to_cpu;
            break;
        }
        case Phase::result: status |= msr_ready | msr_to_cpu | msr_busy; break;
    }
    return status;
}

void I82077aa::write_dor(uint8_t value) {
    const uint8_t before = std::exchange(state_.dor, value);
    if ((value & dor_reset_inactive) == 0) return software_reset();
    if ((before & dor_reset_inactive) == 0) schedule(reset_time);
}

/// RESET of DOR or DSR: everything but SPECIFY's times, the drives and what LOCK protects (data sheet, 4.0 and 5.2.9).
void I82077aa::software_reset() {
    state_.phase = Phase::reset;
    state_.command_length = state_.result_length = state_.result_position = 0;
    state_.interrupt = false;
    state_.polled = 0;
    state_.seeks = {};
    state_.transfer = {};
    state_.present_cylinder = {};
    state_.configure = state_.locked ? state_.configure & configure_lockable : configure_default;
    if (!state_.locked) state_.precompensation = 0;
    state_.perpendicular &= 0x3C;
    state_.next_step.reset();
    if ((state_.dor & dor_reset_inactive) != 0) schedule(reset_time);
}

void I82077aa::finish_reset() {
    state_.phase = Phase::command;
    if ((state_.configure & configure_polling_off) != 0) return;
    // The first poll finds that all four drives have changed from not ready to ready.
    state_.polled = 0x0F;
    state_.interrupt = true;
}

uint8_t I82077aa::read_fifo() {
    if (state_.phase == Phase::execution) {
        const uint8_t value = take_by_cpu();
        update();
        return value;
    }
    if (state_.phase != Phase::result) return 0xFF;
    state_.interrupt = false;
    const uint8_t value = state_.result[state_.result_position++];
    if (state_.result_position == state_.result_length) end_command();
    update();
    return value;
}

void I82077aa::write_fifo(uint8_t value) {
    if (state_.phase == Phase::execution) return give_by_cpu(value);
    if (state_.phase != Phase::command) return;
    state_.command[state_.command_length++] = value;
    const auto form = floppy_command_form(state_.command[0]);
    if (!form) {
        ++state_.invalid_commands;
        return answer({floppy_status::st0_invalid});
    }
    if (state_.command_length < form->length) return;
    if (form->transfers) {
        start_transfer();
    } else {
        start_command();
    }
}

void I82077aa::schedule(Duration delay) {
    state_.next_step = clock_.now() + delay;
}

void I82077aa::take_step() {
    state_.next_step.reset();
    if (state_.phase == Phase::reset) {
        finish_reset();
    } else if (state_.phase == Phase::execution) {
        step_transfer();
    }
    update();
}

void I82077aa::finish_seeks(VirtualTime now) {
    for (unsigned unit = 0; unit < state_.seeks.size(); ++unit) {
        FloppySeek& seek = state_.seeks[unit];
        if (!seek.end || *seek.end > now) continue;
        seek.end.reset();
        seek.interrupt = true;
        seek.status = static_cast<uint8_t>(floppy_status::st0_seek_end | unit);
        FloppyDrive* mechanism = drive(unit);
        if (mechanism) mechanism->step(seek.steps);
        if (seek.recalibrate && !(mechanism && mechanism->at_track_0())) {
            seek.status |= floppy_status::st0_abnormal | floppy_status::st0_equipment_check;
        }
        state_.present_cylinder[unit] = seek.target;
        state_.interrupt = true;
    }
    update();
}

/// Brings what is derived from the state in line with it: timers, INT and DREQ.
void I82077aa::update() {
    std::optional<VirtualTime> seek_end;
    for (const FloppySeek& seek : state_.seeks) {
        if (seek.end && (!seek_end || *seek.end < *seek_end)) seek_end = seek.end;
    }
    const auto follow = [](Timer& timer, const std::optional<VirtualTime>& deadline) {
        if (timer.deadline() == deadline) return;
        if (deadline) {
            timer.arm(*deadline);
        } else {
            timer.cancel();
        }
    };
    follow(step_timer_, state_.next_step);
    follow(seek_timer_, seek_end);
    dma_.set_request(dma_channel_, state_.transfer.awaits_dma);
    const bool asks_cpu = state_.phase == Phase::execution && state_.transfer.available > 0;
    irq_.set((state_.interrupt || asks_cpu) && (state_.dor & dor_dma_gate) != 0);
}

Result<void> I82077aa::validate(const State& staged) const {
    const auto refuse_if = [](bool wrong, const char* what) -> Result<void> {
        if (wrong) return fail(std::string("the floppy controller's ") + what + " cannot be");
        return {};
    };
    const FloppyTransfer& transfer = staged.transfer;
    const auto form = floppy_command_form(staged.command[0]);
    TRY(refuse_if(staged.phase > Phase::result, "phase"));
    const size_t room = staged.command.size() - (staged.phase == Phase::command ? 1 : 0);
    TRY(refuse_if(staged.command_length > room, "command length"));
    TRY(refuse_if(staged.result_length > staged.result.size() || staged.result_position > staged.result_length,
                  "result length"));
    TRY(refuse_if(staged.phase == Phase::result && staged.result_position == staged.result_length, "result"));
    TRY(refuse_if(staged.phase == Phase::execution && !(form && form->transfers), "command"));
    const size_t whole = form && form->command == FloppyCommand::format_track ? 4 : 512;
    TRY(refuse_if(!transfer.buffer.empty() && transfer.buffer.size() != whole, "buffer"));
    TRY(refuse_if(
        transfer.position > transfer.buffer.size() || transfer.available > transfer.buffer.size() - transfer.position,
        "buffer position"));
    TRY(refuse_if(transfer.drive > 3 || transfer.head > 1, "drive selection"));
    for (const FloppyDriveState& each : staged.drives) {
        TRY(refuse_if(each.cylinder >= floppy_drive_cylinders(FloppyType::d1440k), "head position"));
    }
    return {};
}

void I82077aa::after_load() {
    update();
}

Result<std::unique_ptr<Device>> make_i82077aa(DeviceContext& context) {
    DmaController& dma = *TRY(context.need<DmaController>("a DMA controller"));
    DriveRegistry& registered = *TRY(context.need<DriveRegistry>("the list of drives"));
    const uint32_t channel = TRY(context.need_u32("viv,dma"));
    if (channel > 3) return context.refuse("viv,dma must be an 8-bit DMA channel, 0 to 3");
    auto chip = std::make_unique<I82077aa>(context.clock, TRY(context.irq(0)), dma, channel);
    for (uint8_t unit = 0; unit < 2; ++unit) {
        const TreeNode* node = context.node.child("drive@" + std::to_string(unit));
        auto drive = TRY(make_floppy_drive(context, node, chip->drive_state(unit), unit));
        if (!drive) continue;
        registered.add(*drive);
        chip->attach(unit, std::move(drive));
    }
    TRY(context.map(0, chip->main_ports()));
    TRY(context.map(1, chip->rate_port()));
    return chip;
}

}  // namespace viv
