#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "devices/storage/ahci_registers.hpp"
#include "devices/storage/ata_device.hpp"
#include "devices/storage/image/disk_queue.hpp"
#include "vmm/core/guest_memory.hpp"

namespace viv {

struct AhciPortState {
    uint64_t command_list = 0;  // PxCLB, PxCLBU
    uint64_t received = 0;      // PxFB, PxFBU
    uint32_t interrupts = 0;    // PxIS, without the bits that PxSERR has
    uint32_t enabled = 0;       // PxIE
    uint32_t command = ahci::POD;
    uint32_t task_file = ahci::no_task_file;
    uint32_t signature = ahci::no_signature;
    uint32_t control = 0;   // PxSCTL
    uint32_t errors = 0;    // PxSERR
    uint32_t active = 0;    // PxSACT
    uint32_t issued = 0;    // PxCI
    uint8_t slot = 0;       // the current one
    uint8_t speed = 0;      // generation of the link; 0: there is none
    bool halted = false;    // after an error, until ST falls
    bool held = false;      // the drive is in software reset
    bool greeting = false;  // the drive's first FIS waits for a place
    AtaDeviceState drive;
    static void fields(auto& self, auto&& visit) {
        visit("command-list", self.command_list);
        visit("received", self.received);
        visit("interrupts", self.interrupts);
        visit("enabled", self.enabled);
        visit("command", self.command);
        visit("task-file", self.task_file);
        visit("signature", self.signature);
        visit("control", self.control);
        visit("errors", self.errors);
        visit("active", self.active);
        visit("issued", self.issued);
        visit("slot", self.slot);
        visit("speed", self.speed);
        visit("halted", self.halted);
        visit("held", self.held);
        visit("greeting", self.greeting);
        visit("drive", self.drive);
    }
    bool operator==(const AhciPortState&) const = default;
};

/// A port with its drive: registers, command slots, and the frames (FISes) between the two.
class AhciPort {
  public:
    /// The state is part of the controller's. It has to be set before anything else.
    void place(AhciPortState& state) { state_ = &state; }
    void attach(std::unique_ptr<AtaDevice> drive);
    [[nodiscard]] AtaDevice* drive() const { return drive_.get(); }
    /// Of a drive whose commands may be under way beside the machine, or nullptr.
    [[nodiscard]] DiskQueue* queue() const { return queue_; }
    /// Returns when no command is under way any more.
    void settle();

    /// `offset` is one of the port's registers, on a multiple of 4; bits outside of `mask` are not written.
    [[nodiscard]] uint32_t read(uint64_t offset) const;
    void write(uint64_t offset, uint32_t value, uint32_t mask);
    /// Reset of the controller (GHC.HR): the link goes down, the addresses stay.
    void reset();
    /// PxIS & PxIE: the port has something to say.
    [[nodiscard]] bool interrupting() const { return (interrupts() & state_->enabled) != 0; }

    /// Whether a command waits that could run.
    [[nodiscard]] bool has_work() const;
    /// Carries out commands, as many as `budget` (bytes) lets begin.
    void run(GuestMemory& memory, uint64_t& budget);

    [[nodiscard]] static Result<void> validate(const AhciPortState& staged);

  private:
    struct Header {
        uint32_t flags = 0;
        uint32_t entries = 0;
        uint64_t table = 0;
    };
    /// Where the next byte of a command's data is.
    struct Cursor {
        uint64_t table = 0;
        uint32_t entries = 0;  // that were not used yet
        uint64_t base = 0;
        uint32_t left = 0;  // bytes of the entry in use
        bool interrupts = false;
        uint64_t moved = 0;
    };
    enum class Moved { all, halted };
    using RegisterFis = std::array<uint8_t, 20>;

    [[nodiscard]] uint32_t interrupts() const;
    void write_command(uint32_t value);
    void write_control(uint32_t value);
    void stop();
    void connect();
    void halt(uint32_t reason);
    void update_link();

    void execute(unsigned slot, GuestMemory& memory, uint64_t& budget);
    void execute_command(unsigned slot, const RegisterFis& fis, const Header& header, GuestMemory& memory,
                         uint64_t& budget);
    void execute_control(unsigned slot, uint8_t control, GuestMemory& memory);
    void run_command(unsigned slot, const RegisterFis& fis, const Header& header, GuestMemory& memory,
                     uint64_t& budget);
    void load_registers(const RegisterFis& fis);
    /// Begins a command that can be under way beside the machine; false: it is not one, or wants a closer look.
    bool begin(unsigned slot, const RegisterFis& fis, const Header& header, GuestMemory& memory, uint64_t& budget);
    bool find_pieces(const Header& header, bool reads, DiskRequest& request, uint64_t bytes);
    void end(unsigned slot, const RegisterFis& fis, const Header& header, GuestMemory& memory,
             const AtaTransfer& transfer, DiskStatus status);
    Moved move_data(const Header& header, Cursor& cursor, GuestMemory& memory, bool& ended_by_pio);
    bool move_block(Cursor& cursor, GuestMemory& memory, size_t bytes, bool to_memory);
    bool give_packet(const Header& header, GuestMemory& memory);

    void receive(GuestMemory& memory, uint64_t at, std::span<const uint8_t> fis);
    void greet(GuestMemory& memory);
    void send_register(GuestMemory& memory, bool interrupt);
    void send_pio_setup(GuestMemory& memory, bool to_memory, bool interrupt, size_t bytes);
    void send_dma_setup(GuestMemory& memory, uint8_t tag, bool to_memory, uint64_t bytes);
    void send_device_bits(GuestMemory& memory, uint8_t tag);
    void set_task_file(uint8_t status);

    AhciPortState* state_ = nullptr;
    std::unique_ptr<AtaDevice> drive_;
    DiskQueue* queue_ = nullptr;
    std::vector<std::byte> scratch_;
};

}  // namespace viv
