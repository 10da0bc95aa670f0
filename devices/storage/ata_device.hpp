#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "devices/storage/optical_state.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// Command block registers by their offset (ATA/ATAPI-6, 7).
enum class AtaRegister : uint8_t {
    data = 0,      // rw, 16 bits wide
    error = 1,     // r-
    features = 1,  // -w
    count = 2,     // rw
    lba_low = 3,   // rw
    lba_mid = 4,   // rw
    lba_high = 5,  // rw
    device = 6,    // rw
    status = 7,    // r-
    command = 7,   // -w
};

namespace ata {
inline constexpr uint8_t status_busy = 0x80;
inline constexpr uint8_t status_ready = 0x40;
inline constexpr uint8_t status_fault = 0x20;
inline constexpr uint8_t status_seek_complete = 0x10;
inline constexpr uint8_t status_data_request = 0x08;
inline constexpr uint8_t status_error = 0x01;
inline constexpr uint8_t error_uncorrectable = 0x40;
inline constexpr uint8_t error_write_protected = 0x40;
inline constexpr uint8_t error_id_not_found = 0x10;
inline constexpr uint8_t error_abort = 0x04;
inline constexpr uint8_t diagnostic_passed = 0x01;
inline constexpr uint8_t device_lba = 0x40;
inline constexpr uint8_t device_select = 0x10;
inline constexpr uint8_t device_obsolete = 0xA0;
}  // namespace ata

/// The registers of a drive that a command finds, and those that were written before them (LBA48's other half).
struct AtaTaskFile {
    uint8_t features = 0;
    uint8_t count = 1;
    uint8_t lba_low = 1;
    uint8_t lba_mid = 0;
    uint8_t lba_high = 0;
    static void fields(auto& self, auto&& visit) {
        visit("features", self.features);
        visit("count", self.count);
        visit("lba-low", self.lba_low);
        visit("lba-mid", self.lba_mid);
        visit("lba-high", self.lba_high);
    }
    bool operator==(const AtaTaskFile&) const = default;
};

/// The cable: it decides what a drive says of itself, and whether it has the newer commands.
enum class AtaWire : uint8_t { parallel, serial };

/// What the log of a queued command that failed says (ACS-2, A.14).
struct AtaQueueError {
    bool held = false;  // until the log has been read, no other command is taken
    uint8_t tag = 0;
    uint8_t status = 0;
    uint8_t error = 0;
    uint8_t device = 0;
    AtaTaskFile task;
    AtaTaskFile previous;
    static void fields(auto& self, auto&& visit) {
        visit("held", self.held);
        visit("tag", self.tag);
        visit("status", self.status);
        visit("error", self.error);
        visit("device", self.device);
        visit("task", self.task);
        visit("previous", self.previous);
    }
    bool operator==(const AtaQueueError&) const = default;
};

/// All of a drive that a guest can change, whatever its kind.
struct AtaDeviceState {
    enum class Phase : uint8_t { idle, data_in, data_out };
    enum class Power : uint8_t { active, idle, standby, sleep };
    /// What a packet device's data block is.
    enum class Packet : uint8_t { none, command, data_in, data_out };

    AtaTaskFile task;
    AtaTaskFile previous{.count = 0, .lba_low = 0};
    uint8_t device = 0;
    uint8_t error = ata::diagnostic_passed;
    uint8_t status = ata::status_ready | ata::status_seek_complete;
    uint8_t command = 0;      // the last one written
    bool interrupt = false;   // INTRQ, before nIEN and selection
    bool dma = false;         // the data are moved by the bus master, not through the data port
    uint8_t dma_mode = 0x22;  // as SET FEATURES selects it: multiword 2
    Phase phase = Phase::idle;
    std::vector<uint8_t> buffer;  // the data block (DRQ) that the host is moving
    uint32_t position = 0;        // bytes of it that are done
    uint64_t lba = 0;             // of the first sector that is not done
    uint32_t remaining = 0;       // sectors that are not done; of a read, those not in the buffer yet
    uint16_t sectors_per_block = 1;
    uint8_t multiple = 0;    // SET MULTIPLE MODE
    uint32_t cylinders = 0;  // the translation in use; 0: the default one
    uint32_t heads = 0;
    uint32_t sectors = 0;
    Power power = Power::active;
    bool write_cache = true;
    bool look_ahead = true;
    bool byte_wide = false;        // 8-bit data transfers
    bool keep_over_reset = false;  // a software reset does not take the settings back
    uint64_t commands = 0;
    uint64_t aborted = 0;
    // Only of disks on a serial wire.
    bool smart = true;
    uint8_t tag = 0;  // of a queued command
    AtaQueueError queue_error;
    // Only of packet devices.
    Packet packet = Packet::none;
    bool packet_dma = false;  // its data are the bus master's
    uint16_t byte_limit = 0;  // the most bytes of a data block
    OpticalState optical;

    static void fields(auto& self, auto&& visit) {
        visit("task", self.task);
        visit("previous", self.previous);
        visit("device", self.device);
        visit("error", self.error);
        visit("status", self.status);
        visit("command", self.command);
        visit("interrupt", self.interrupt);
        visit("dma", self.dma);
        visit("dma-mode", self.dma_mode);
        visit("phase", self.phase);
        visit("buffer", self.buffer);
        visit("position", self.position);
        visit("lba", self.lba);
        visit("remaining", self.remaining);
        visit("sectors-per-block", self.sectors_per_block);
        visit("multiple", self.multiple);
        visit("cylinders", self.cylinders);
        visit("heads", self.heads);
        visit("sectors", self.sectors);
        visit("power", self.power);
        visit("write-cache", self.write_cache);
        visit("look-ahead", self.look_ahead);
        visit("byte-wide", self.byte_wide);
        visit("keep-over-reset", self.keep_over_reset);
        visit("commands", self.commands);
        visit("aborted", self.aborted);
        visit("smart", self.smart);
        visit("tag", self.tag);
        visit("queue-error", self.queue_error);
        visit("packet", self.packet);
        visit("packet-dma", self.packet_dma);
        visit("byte-limit", self.byte_limit);
        visit("optical", self.optical);
    }
    bool operator==(const AtaDeviceState&) const = default;
};

class DiskQueue;
enum class DiskStatus;

/// What a command would move that may be under way beside the machine.
struct AtaTransfer {
    enum class Kind : uint8_t { read, write, flush };
    Kind kind = Kind::flush;
    bool durable = false;
    uint8_t tag = 0;      // of reads and writes, which are queued commands
    uint64_t offset = 0;  // bytes
    uint64_t length = 0;
};

/// A drive on the cable, seen from the channel: registers, data port, INTRQ. What its commands do is the derived
/// class's; each is carried out within the write that starts it, so that BSY is never seen outside of resets (but see
/// queue()).
class AtaDevice {
  public:
    /// `state` is the part of the channel's state that belongs to this drive.
    explicit AtaDevice(AtaDeviceState& state, AtaWire wire = AtaWire::parallel) : state_(state), wire_(wire) {}
    AtaDevice(const AtaDevice&) = delete;
    AtaDevice& operator=(const AtaDevice&) = delete;
    virtual ~AtaDevice() = default;

    /// A register write other than data and command; both drives of a channel see it.
    void write_register(AtaRegister at, uint8_t value);
    /// `high_order` shows what was written before (HOB). Reading status takes INTRQ back.
    [[nodiscard]] uint8_t read_register(AtaRegister at, bool high_order);
    /// What device 0 gives for a device 1 that is not there, status apart (ATA/ATAPI-6, 9.16.1).
    [[nodiscard]] virtual uint8_t read_for_absent(AtaRegister at, bool high_order) {
        return read_register(at, high_order);
    }
    [[nodiscard]] uint8_t alternate_status() const { return state_.status; }
    /// False when the drive sleeps and does not take it.
    bool write_command(uint8_t command);

    /// Moves data in port order; all-ones where the drive has none, dropped where it wants none.
    void read_data(std::span<std::byte> out);
    void write_data(std::span<const std::byte> in);
    /// DMARQ: the drive waits for the bus master.
    enum class DmaRequest { none, to_memory, from_memory };
    [[nodiscard]] DmaRequest dma_request() const;
    /// The bus master moves data while the drive asks for it; how many bytes the drive gave or took.
    size_t read_dma(std::span<std::byte> out);
    size_t write_dma(std::span<const std::byte> in);
    [[nodiscard]] bool byte_wide() const { return state_.byte_wide; }

    // For a wire that carries registers and data in frames: the state itself, and a command's data however it moves.
    [[nodiscard]] const AtaDeviceState& state() const { return state_; }
    /// All registers of a command, and what was written to them before.
    void load_registers(const AtaTaskFile& now, const AtaTaskFile& before, uint8_t device);
    /// Bytes that the host has not moved of the data block; 0 when there is none.
    [[nodiscard]] size_t block_left() const;
    /// Moves at most block_left() bytes; how many.
    size_t give_block(std::span<std::byte> out) { return move_in(out); }
    size_t take_block(std::span<const std::byte> in) { return move_out(in); }
    /// Takes INTRQ back and says whether it was there.
    bool take_interrupt() { return std::exchange(state_.interrupt, false); }
    /// Whether the command that ran was a queued one, and its tag: its end is told by Set Device Bits.
    [[nodiscard]] virtual std::optional<uint8_t> queued_tag() const { return std::nullopt; }

    /// For requests beside the machine; nullptr: each command ends in the write that starts it.
    [[nodiscard]] virtual DiskQueue* queue() const { return nullptr; }
    /// What the command in the registers would move, if it may be under way beside the machine, and the drive would
    /// take it.
    [[nodiscard]] virtual std::optional<AtaTransfer> transfer_of(uint8_t /*command*/) const { return std::nullopt; }
    /// Such a command has begun, and its data are not the drive's business.
    virtual void begin_transfer(uint8_t /*command*/) {}
    /// What the command in the registers moved beside the machine has ended so. A read that failed is to be run again:
    /// the drive finds the sector.
    virtual void end_transfer(uint8_t /*command*/, DiskStatus /*status*/) {}

    [[nodiscard]] bool interrupt() const { return state_.interrupt; }
    /// SRST while it is set.
    void hold_in_reset();
    /// The end of SRST.
    virtual void software_reset();
    /// RESET#: the channel has made the state new; `before` is what it was.
    virtual void hardware_reset(const AtaDeviceState& /*before*/) { diagnose(); }
    /// EXECUTE DEVICE DIAGNOSTIC, which both drives do; without INTRQ.
    void diagnose();

    /// Refuses a saved state that a drive could not have had.
    [[nodiscard]] static Result<void> validate(const AtaDeviceState& staged);
    static constexpr uint32_t max_block_bytes = 64 * 1024;

  protected:
    virtual void execute(uint8_t command) = 0;
    /// The host has read the whole buffer.
    virtual void block_taken() = 0;
    /// The host has filled the whole buffer.
    virtual void block_given() = 0;
    /// What tells the kind of a drive after a reset: LBA mid and high.
    [[nodiscard]] virtual std::array<uint8_t, 2> signature() const = 0;
    /// Status after a reset.
    [[nodiscard]] virtual uint8_t reset_status() const { return ata::status_ready | ata::status_seek_complete; }
    /// Whether a sleeping drive takes this command.
    [[nodiscard]] virtual bool wakes_up(uint8_t /*command*/) const { return false; }

    // How a command goes on.
    void finish();
    /// After the last block of a read: its INTRQ was the last one (ATA/ATAPI-6, 9.5).
    void finish_data_in();
    void fail_command(uint8_t error, uint8_t extra_status = 0);
    /// Puts what a reset leaves into the task file, DEV of the device register too.
    void set_signature();
    void abort() { fail_command(ata::error_abort); }
    /// A command has failed, and the registers say how.
    virtual void command_failed() {}
    /// Lets the host read `state_.buffer`; INTRQ.
    void offer_block();
    /// Lets the host fill `bytes` bytes of the buffer.
    void ask_for_block(size_t bytes);

    /// SET FEATURES 03h: whether there is such a transfer mode. DMA modes are kept for IDENTIFY.
    bool set_transfer_mode();
    /// IDENTIFY's words 63 and 88.
    [[nodiscard]] uint16_t multiword_modes() const;
    [[nodiscard]] uint16_t ultra_modes() const;

    [[nodiscard]] bool serial() const { return wire_ == AtaWire::serial; }

    AtaDeviceState& state_;

  private:
    AtaWire wire_;
    size_t move_in(std::span<std::byte> out);
    size_t move_out(std::span<const std::byte> in);
};

}  // namespace viv
