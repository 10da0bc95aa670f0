// Models: an NVMe controller with one namespace of 512-byte blocks: admin and 16 I/O queue pairs, PRPs, asynchronous
//   events, INTx and MSI-X
// Not modelled: SGLs, several namespaces and their management, formatting, firmware images, fused commands, metadata,
//   shadow doorbells, controller memory, power states, interrupt coalescing
// Ignored bits: PRINFO, LR and DSM hints of reads and writes, QPRIO, SEL of features; bytes of doorbells written alone
// Reference: NVM Express Base Specification 1.4
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/pci/pci_function.hpp"
#include "devices/storage/disk_drive.hpp"
#include "devices/storage/nvme_registers.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// A queue of commands; `size` 0: there is none.
struct NvmeSubmissionQueue {
    uint64_t base = 0;
    uint32_t size = 0;
    uint16_t head = 0;
    uint16_t tail = 0;
    uint16_t completions = 0;  // the queue that tells of their end
    static void fields(auto& self, auto&& visit) {
        visit("base", self.base);
        visit("size", self.size);
        visit("head", self.head);
        visit("tail", self.tail);
        visit("completions", self.completions);
    }
    bool operator==(const NvmeSubmissionQueue&) const = default;
};

struct NvmeCompletionQueue {
    uint64_t base = 0;
    uint32_t size = 0;
    uint16_t head = 0;
    uint16_t tail = 0;
    bool phase = true;
    bool interrupts = false;
    uint16_t vector = 0;
    static void fields(auto& self, auto&& visit) {
        visit("base", self.base);
        visit("size", self.size);
        visit("head", self.head);
        visit("tail", self.tail);
        visit("phase", self.phase);
        visit("interrupts", self.interrupts);
        visit("vector", self.vector);
    }
    bool operator==(const NvmeCompletionQueue&) const = default;
};

/// What is lost when the controller is disabled.
struct NvmeSession {
    std::array<NvmeSubmissionQueue, nvme::queue_count> submissions;
    std::array<NvmeCompletionQueue, nvme::queue_count> completions;
    std::array<uint32_t, nvme::feature_count> features{};
    uint32_t masked = 0;                   // INTMS
    std::vector<uint16_t> event_requests;  // command identifiers that wait for an event
    uint8_t events = 0;                    // a bit for each kind of error that was not told yet
    bool events_held = false;              // until the log of the last one has been read
    static void fields(auto& self, auto&& visit) {
        visit("submissions", self.submissions);
        visit("completions", self.completions);
        visit("features", self.features);
        visit("masked", self.masked);
        visit("event-requests", self.event_requests);
        visit("events", self.events);
        visit("events-held", self.events_held);
    }
    bool operator==(const NvmeSession&) const = default;
};

struct NvmeState {
    uint32_t configuration = 0;  // CC
    uint32_t status = 0;         // CSTS
    uint32_t admin_sizes = 0;    // AQA
    uint64_t admin_submissions = 0;
    uint64_t admin_completions = 0;
    NvmeSession session;
    uint64_t blocks_read = 0;
    uint64_t blocks_written = 0;
    uint64_t reads = 0;
    uint64_t writes = 0;
    std::optional<VirtualTime> resume;  // when the commands go on that were too many at once
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("configuration", self.configuration);
        visit("status", self.status);
        visit("admin-sizes", self.admin_sizes);
        visit("admin-submissions", self.admin_submissions);
        visit("admin-completions", self.admin_completions);
        visit("session", self.session);
        visit("blocks-read", self.blocks_read);
        visit("blocks-written", self.blocks_written);
        visit("reads", self.reads);
        visit("writes", self.writes);
        visit("resume", self.resume);
        visit("pci", self.pci);
    }
    bool operator==(const NvmeState&) const = default;
};

class Nvme final : public StatefulDevice<NvmeState>, public BusDevice {
  public:
    Nvme(std::unique_ptr<DiskDrive> disk, Clock& clock);

    [[nodiscard]] PciFunction& pci() { return pci_; }
    [[nodiscard]] DiskDrive& disk() { return *disk_; }

    void reset(ResetKind kind) override;

    /// The registers and doorbells of BAR 0.
    uint64_t read(Access access) override;
    void write(Access access, uint64_t value) override;

    /// What the commands of one access may move before the others have to wait a moment, in bytes.
    static constexpr uint64_t bytes_at_once = 64u << 20;
    /// Event requests that may wait (AERL + 1).
    static constexpr size_t most_event_requests = 4;

  protected:
    Result<void> validate(const NvmeState& staged) const override;
    void after_load() override;

  private:
    using Status = nvme::Status;
    /// A command of 64 bytes.
    struct Command {
        std::array<uint32_t, 16> words{};
        [[nodiscard]] uint8_t opcode() const { return static_cast<uint8_t>(words[0]); }
        [[nodiscard]] uint16_t identifier() const { return static_cast<uint16_t>(words[0] >> 16); }
        [[nodiscard]] uint32_t name_space() const { return words[1]; }
        [[nodiscard]] uint64_t wide(size_t first) const { return uint64_t{words[first + 1]} << 32 | words[first]; }
        [[nodiscard]] uint64_t prp1() const { return wide(6); }
        [[nodiscard]] uint64_t prp2() const { return wide(8); }
    };
    /// How a command ended, and word 0 of what tells of it.
    struct Completion {
        Status status = Status::success;
        uint32_t result = 0;
        bool later = false;                                                              // it has not ended
        Completion(Status how = Status::success, uint32_t word = 0, bool waits = false)  // NOLINT: a status is one
            : status(how), result(word), later(waits) {}
    };
    struct Segment {
        Gpa base;
        size_t size = 0;
    };
    /// A command of the namespace from when its transfers begin until its end is told.
    struct Job {
        unsigned queue = 0;
        uint16_t identifier = 0;
        GuestMemory* memory = nullptr;
        unsigned parts = 1;  // that are not done
        Status status = Status::success;
    };
    using JobRef = std::shared_ptr<Job>;
    /// Kinds of error events, by their code (figure 148).
    enum class Event : uint8_t { invalid_doorbell = 0, invalid_doorbell_value = 1 };

    // Registers, nvme.cpp
    [[nodiscard]] uint32_t read_register(uint64_t offset) const;
    void write_register(uint64_t offset, uint32_t value, uint32_t mask);
    void configure(uint32_t value);
    void enable();
    void disable();
    void ring(uint64_t index, uint32_t value);
    [[nodiscard]] bool running() const;

    // Queues
    void run();
    [[nodiscard]] bool can_step(unsigned queue) const;
    [[nodiscard]] bool can_step() const;
    /// Returns when no command is under way any more.
    void settle() { disk_->queue().drain(); }
    void step(unsigned queue, GuestMemory& memory, uint64_t& budget);
    void complete(unsigned queue, uint16_t identifier, const Completion& completion, GuestMemory& memory);
    void note_event(Event event);
    void tell_events(GuestMemory& memory);
    void fail_controller() { state_.status |= nvme::CSTS_CFS; }
    void update_irq();

    // Admin commands, nvme_admin.cpp
    Completion execute_admin(const Command& command, GuestMemory& memory);
    Completion create_submissions(const Command& command);
    Completion create_completions(const Command& command);
    Completion delete_submissions(const Command& command);
    Completion delete_completions(const Command& command);
    Completion identify(const Command& command, GuestMemory& memory);
    Completion get_log_page(const Command& command, GuestMemory& memory);
    Completion set_features(const Command& command);
    Completion get_features(const Command& command);
    Completion request_event(const Command& command);
    [[nodiscard]] std::vector<uint8_t> controller_data() const;
    [[nodiscard]] std::vector<uint8_t> namespace_data() const;
    [[nodiscard]] std::vector<uint8_t> namespace_names() const;
    [[nodiscard]] std::vector<uint8_t> health_log() const;
    [[nodiscard]] uint64_t unique_name() const;

    // Commands of the namespace, nvme_io.cpp
    Completion execute_io(unsigned queue, const Command& command, GuestMemory& memory, uint64_t& budget);
    Completion move_blocks(const JobRef& job, const Command& command, DiskRequest::Kind kind, uint64_t& budget);
    Completion compare(const Command& command, GuestMemory& memory, uint64_t& budget);
    Completion write_zeroes(const JobRef& job, const Command& command, uint64_t& budget);
    Completion dataset_management(const JobRef& job, const Command& command);
    /// Gives the parts of a command to the disk, which may end them within.
    Completion start(const JobRef& job, std::vector<DiskRequest> requests);
    void end_part(const JobRef& job, DiskRequest::Kind kind, uint64_t bytes, DiskStatus status);
    /// Whether a write has to be durable when it ends.
    [[nodiscard]] bool is_durable(const Command& command) const;
    [[nodiscard]] bool has_blocks(uint64_t first, uint64_t count) const;
    /// Where the data of a command are, in `segments_`.
    Status find_data(const Command& command, size_t bytes, GuestMemory& memory);
    Status put_data(const Command& command, std::span<const std::byte> data, GuestMemory& memory);
    Status take_data(const Command& command, std::span<std::byte> data, GuestMemory& memory);

    std::unique_ptr<DiskDrive> disk_;
    PciFunction pci_;
    Clock& clock_;
    Timer timer_;
    std::array<bool, nvme::queue_count> told_{};      // vectors whose queues got something in this access
    std::array<uint32_t, nvme::queue_count> owed_{};  // entries of a completion queue that commands under way will need
    bool running_now_ = false;
    std::vector<Segment> segments_;
    std::vector<std::byte> scratch_;
};

/// Makes `viv,nvme`: `reg` = <device function>; viv,image, viv,serial, viv,read-only, viv,snapshot are of its disk.
/// Needs DriveRegistry and PciBus.
Result<std::unique_ptr<Device>> make_nvme(DeviceContext& context);

}  // namespace viv
