// Models: the 82077AA in AT mode with two drives: all commands, DMA and programmed I/O, FIFO, LOCK, polling, seeks
// Not modelled: PS/2 and Model 30 modes (SRA, SRB), FM, deleted data marks, tape, power down; docs/devices/storage.md
// Ignored bits: TDR 7:2, DSR 6:2, DIR 6:0 (float high), CCR 7:2, GPL and the step, load and unload times
// Reference: Intel 82077AA CHMOS Single-Chip Floppy Disk Controller data sheet (290166)
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <vector>

#include "devices/storage/floppy_drive.hpp"
#include "devices/system/dma_controller.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/irq_line.hpp"

namespace viv {

/// One seek or recalibrate. All drives can be in one at a time.
struct FloppySeek {
    std::optional<VirtualTime> end;  // under way until then
    bool recalibrate = false;
    int16_t steps = 0;       // what the heads will move
    uint8_t target = 0;      // PCN afterwards
    bool interrupt = false;  // done, and not yet asked about by SENSE INTERRUPT STATUS
    uint8_t status = 0;      // its ST0
    static void fields(auto& self, auto&& visit) {
        visit("end", self.end);
        visit("recalibrate", self.recalibrate);
        visit("steps", self.steps);
        visit("target", self.target);
        visit("interrupt", self.interrupt);
        visit("status", self.status);
    }
    bool operator==(const FloppySeek&) const = default;
};

/// The command in its execution phase that moves sectors.
struct FloppyTransfer {
    uint8_t drive = 0;
    uint8_t head = 0;      // the head that is selected
    uint8_t cylinder = 0;  // C, H, R, N of the sector that comes next
    uint8_t head_id = 0;
    uint8_t sector = 0;
    uint8_t size_code = 0;
    uint8_t end_of_track = 0;
    uint8_t remaining = 0;  // sectors still to do: FORMAT, and VERIFY with EC
    bool counted = false;   // `remaining` decides the end
    uint8_t status_1 = 0;
    uint8_t status_2 = 0;
    bool seek_end = false;        // an implied seek was made
    bool awaits_dma = false;      // DREQ is up
    std::vector<uint8_t> buffer;  // the sector, or the ID of FORMAT, on its way
    uint16_t position = 0;        // programmed I/O: next byte of the buffer
    uint16_t available = 0;       // programmed I/O: bytes that the CPU can move before the FIFO has to turn
    static void fields(auto& self, auto&& visit) {
        visit("drive", self.drive);
        visit("head", self.head);
        visit("cylinder", self.cylinder);
        visit("head-id", self.head_id);
        visit("sector", self.sector);
        visit("size-code", self.size_code);
        visit("end-of-track", self.end_of_track);
        visit("remaining", self.remaining);
        visit("counted", self.counted);
        visit("status-1", self.status_1);
        visit("status-2", self.status_2);
        visit("seek-end", self.seek_end);
        visit("awaits-dma", self.awaits_dma);
        visit("buffer", self.buffer);
        visit("position", self.position);
        visit("available", self.available);
    }
    bool operator==(const FloppyTransfer&) const = default;
};

struct I82077aaState {
    enum class Phase : uint8_t { reset, command, execution, result };

    uint8_t dor = 0;
    uint8_t tdr = 0;
    uint8_t data_rate = 2;  // DRATE SEL of DSR and CCR
    Phase phase = Phase::reset;
    std::array<uint8_t, 9> command{};
    uint8_t command_length = 0;  // bytes taken so far
    std::array<uint8_t, 10> result{};
    uint8_t result_length = 0;
    uint8_t result_position = 0;
    bool interrupt = false;  // INT, before the gate of DOR
    uint8_t polled = 0;      // drives whose "ready changed" of the last reset was not asked about
    std::array<uint8_t, 2> specify{};
    uint8_t configure = 0x20;     // second byte of CONFIGURE: EIS, EFIFO, POLL, FIFOTHR
    uint8_t precompensation = 0;  // PRETRK
    uint8_t perpendicular = 0;    // D3-D0, GAP, WGATE
    bool locked = false;
    uint8_t last_end_of_track = 0;  // SC/EOT, for DUMPREG
    std::array<uint8_t, 4> present_cylinder{};
    std::array<FloppySeek, 4> seeks;
    FloppyTransfer transfer;
    std::optional<VirtualTime> next_step;  // of the reset or of the execution phase
    std::array<FloppyDriveState, 2> drives;
    uint64_t invalid_commands = 0;

    static void fields(auto& self, auto&& visit) {
        visit("dor", self.dor);
        visit("tdr", self.tdr);
        visit("data-rate", self.data_rate);
        visit("phase", self.phase);
        visit("command", self.command);
        visit("command-length", self.command_length);
        visit("result", self.result);
        visit("result-length", self.result_length);
        visit("result-position", self.result_position);
        visit("interrupt", self.interrupt);
        visit("polled", self.polled);
        visit("specify", self.specify);
        visit("configure", self.configure);
        visit("precompensation", self.precompensation);
        visit("perpendicular", self.perpendicular);
        visit("locked", self.locked);
        visit("last-end-of-track", self.last_end_of_track);
        visit("present-cylinder", self.present_cylinder);
        visit("seeks", self.seeks);
        visit("transfer", self.transfer);
        visit("next-step", self.next_step);
        visit("drives", self.drives);
        visit("invalid-commands", self.invalid_commands);
    }
    bool operator==(const I82077aaState&) const = default;
};

/// The floppy controller. Its ports are 3F0h-3F5h and 3F7h on a PC.
class I82077aa final : public StatefulDevice<I82077aaState> {
  public:
    using State = I82077aaState;
    enum class Register : uint8_t {
        sra = 0,   // r-
        srb = 1,   // r-
        dor = 2,   // rw
        tdr = 3,   // rw
        msr = 4,   // r-
        dsr = 4,   // -w
        fifo = 5,  // rw
        dir = 7,   // r-
        ccr = 7,   // -w
    };

    I82077aa(Clock& clock, IrqLine irq, DmaController& dma, unsigned dma_channel);

    /// Where a drive's changeable part lives, for the drive's maker.
    FloppyDriveState& drive_state(unsigned unit) { return state_.drives.at(unit); }
    void attach(unsigned unit, std::unique_ptr<FloppyDrive> drive) { drives_.at(unit) = std::move(drive); }
    /// The drive at `unit` (0 or 1), or nullptr.
    [[nodiscard]] FloppyDrive* drive(unsigned unit) { return unit < drives_.size() ? drives_[unit].get() : nullptr; }

    /// Offsets 0-5 of the base, and 7 alone: between them is a port of the IDE channel.
    BusDevice& main_ports() { return main_window_; }
    BusDevice& rate_port() { return rate_window_; }

    void reset(ResetKind kind) override;

  protected:
    Result<void> validate(const State& staged) const override;
    void after_load() override;

  private:
    class Window final : public ByteDevice {
      public:
        Window(I82077aa& chip, uint8_t base) : chip_(chip), base_(base) {}
        uint8_t read8(uint64_t offset) override { return chip_.read_register(static_cast<uint8_t>(base_ + offset)); }
        void write8(uint64_t offset, uint8_t value) override {
            chip_.write_register(static_cast<uint8_t>(base_ + offset), value);
        }

      private:
        I82077aa& chip_;
        uint8_t base_;
    };

    // i82077aa.cpp: registers, phases, reset
    uint8_t read_register(uint8_t offset);
    void write_register(uint8_t offset, uint8_t value);
    [[nodiscard]] uint8_t main_status() const;
    void write_dor(uint8_t value);
    uint8_t read_fifo();
    void write_fifo(uint8_t value);
    void software_reset();
    void finish_reset();
    void schedule(Duration delay);
    void take_step();
    void finish_seeks(VirtualTime now);
    void update();

    // i82077aa_commands.cpp: commands without an execution phase, and seeks
    void start_command();
    void answer(std::initializer_list<uint8_t> bytes);
    void end_command();
    void sense_interrupt();
    void sense_drive();
    void dump_registers();
    void start_seek(unsigned unit, int steps, uint8_t target);
    void start_recalibrate(unsigned unit);

    // i82077aa_transfer.cpp: commands that move sectors
    void start_transfer();
    void step_transfer();
    [[nodiscard]] FloppyDrive* readable_drive();
    [[nodiscard]] bool find_sector();
    void step_read_id();
    void next_buffer();
    void move_by_dma();
    void offer_to_cpu();
    uint8_t take_by_cpu();
    void give_by_cpu(uint8_t value);
    void buffer_done(bool terminal_count);
    [[nodiscard]] bool write_buffer();
    [[nodiscard]] bool format_sector();
    [[nodiscard]] bool scan_satisfied();
    void advance();
    enum class Outcome : uint8_t { normal = 0x00, abnormal = 0x40 };
    void finish_transfer(Outcome outcome);

    [[nodiscard]] bool non_dma() const { return (state_.specify[1] & 1) != 0; }

    Clock& clock_;
    IrqLine irq_;
    DmaController& dma_;
    unsigned dma_channel_;
    Timer step_timer_;
    Timer seek_timer_;
    Window main_window_{*this, 0};
    Window rate_window_{*this, 7};
    std::array<std::unique_ptr<FloppyDrive>, 2> drives_;
};

/// Makes `intel,82077aa`: the floppy controller with its drives, the children `drive@0` and `drive@1`. Drive 0 is
/// always there, drive 1 when its node has viv,image or viv,drive-type. Needs DmaController and DriveRegistry.
Result<std::unique_ptr<Device>> make_i82077aa(DeviceContext& context);

}  // namespace viv
