// Models: a virtio block device of 512-byte sectors: several queues, many requests under way, flush, write-back or
//   write-through, discard, write zeroes, geometry, topology, serial, a change of size
// Not modelled: SCSI commands, lifetime, secure erase, zoned disks
// Ignored bits: the unmap flag of write zeroes (space is given back where that has the same effect), request priority
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 5.2
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/storage/disk_drive.hpp"
#include "devices/virtio/virtio_transport.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

struct VirtioBlockState {
    bool write_back = true;  // the field that the driver may write
    bool chosen = false;     // it has
    uint64_t requests = 0;
    uint64_t failures = 0;
    uint64_t sectors = 0;  // of a machine that is saved
    static void fields(auto& self, auto&& visit) {
        visit("write-back", self.write_back);
        visit("chosen", self.chosen);
        visit("requests", self.requests);
        visit("failures", self.failures);
        visit("sectors", self.sectors);
    }
    bool operator==(const VirtioBlockState&) const = default;
};

class VirtioBlock final : public StatefulDevice<VirtioBlockState>, public VirtioFunction {
  public:
    static constexpr unsigned most_queues = 16;
    static constexpr uint16_t queue_size = 256;
    /// Segments of data, and bytes of each.
    static constexpr uint32_t most_segments = 254, most_segment_size = 256 * 1024;
    /// What a request can move, in bytes; more is an error.
    static constexpr uint64_t most_bytes = uint64_t{most_segments} * most_segment_size;
    static constexpr uint32_t most_discard_sectors = 1u << 22, most_discard_segments = 64;
    static constexpr uint32_t most_zeroed_sectors = 1u << 16, most_zeroed_segments = 1;

    /// `queues` is 1 to 16.
    VirtioBlock(std::unique_ptr<DiskDrive> disk, unsigned queues);
    ~VirtioBlock() override;

    [[nodiscard]] DiskDrive& disk() { return *disk_; }

    [[nodiscard]] const VirtioIdentity& identity() const override { return identity_; }
    [[nodiscard]] uint64_t features() const override;
    [[nodiscard]] std::vector<uint8_t> configuration() const override;
    void write_configuration(uint64_t offset, uint8_t value) override;
    void notified(unsigned queue) override;
    void settle() override { disk_->queue().drain(); }
    void driver_reset() override;
    [[nodiscard]] Device& device() override { return *this; }

    void reset(ResetKind /*kind*/) override { state_ = {}; }

  protected:
    void before_save() override { state_.sectors = sectors_; }
    Result<void> validate(const VirtioBlockState& staged) const override;
    void after_load() override {}

  private:
    /// Of the byte that ends a request (5.2.6).
    enum class Status : uint8_t { ok = 0, io_error = 1, unsupported = 2 };
    struct Range {
        uint64_t sector = 0;
        uint32_t count = 0;
        uint32_t flags = 0;
    };
    /// A request of the driver from when its buffer is taken until that is given back.
    struct Job {
        unsigned queue = 0;
        uint16_t id = 0;
        uint16_t entries = 0;
        Gpa status_at;
        bool has_status = false;
        GuestMemory* memory = nullptr;
        uint32_t written = 0;  // bytes of data, if it succeeds
        unsigned parts = 1;    // that are not done
        Status status = Status::ok;
        bool ended = false;
    };
    struct Queue {
        std::deque<Virtqueue::Use> ended;         // to be given back
        std::deque<std::shared_ptr<Job>> in_row;  // of drivers that want them back in order
        GuestMemory* memory = nullptr;
        bool held = false;  // the disk was full
    };
    using JobRef = std::shared_ptr<Job>;
    VirtioTransport::Start begin(unsigned queue, const VirtqueueChain& chain, GuestMemory& memory);
    void dispatch(const JobRef& job, const VirtqueueChain& chain);
    void move(const JobRef& job, const VirtqueueChain& chain, DiskRequest::Kind kind, uint64_t sector);
    void start(const JobRef& job, DiskRequest request);
    void identify(const JobRef& job, const VirtqueueChain& chain);
    void clear(const JobRef& job, const VirtqueueChain& chain, bool discards);
    /// A part of a job is done.
    void end(const JobRef& job, Status status);
    void give_back();
    [[nodiscard]] bool has_sectors(uint64_t first, uint64_t count) const;
    /// The image has another size: the driver is told.
    void resize();
    [[nodiscard]] bool writes_back() const;
    [[nodiscard]] bool writeback_field() const;

    std::unique_ptr<DiskDrive> disk_;
    VirtioIdentity identity_;
    uint64_t sectors_;
    std::vector<Queue> queues_;
};

/// viv,function = "block": viv,image, viv,serial, viv,read-only, viv,snapshot, viv,queues. Needs DriveRegistry.
Result<std::unique_ptr<VirtioFunction>> make_virtio_block(DeviceContext& context);

}  // namespace viv
