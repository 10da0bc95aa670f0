// Models: a virtio block device of 512-byte sectors: several queues, flush, write-back or write-through, discard, write
//   zeroes, geometry, topology, serial
// Not modelled: SCSI commands, lifetime, secure erase, zoned disks, a change of size
// Ignored bits: the unmap flag of write zeroes (space is given back where that has the same effect), request priority
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 5.2
#pragma once

#include <cstdint>
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
    uint64_t requests = 0;
    uint64_t failures = 0;
    static void fields(auto& self, auto&& visit) {
        visit("write-back", self.write_back);
        visit("requests", self.requests);
        visit("failures", self.failures);
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

    [[nodiscard]] DiskDrive& disk() { return *disk_; }

    [[nodiscard]] const VirtioIdentity& identity() const override { return identity_; }
    [[nodiscard]] uint64_t features() const override;
    [[nodiscard]] std::vector<uint8_t> configuration() const override;
    void write_configuration(uint64_t offset, uint8_t value) override;
    void notified(unsigned queue) override;
    void driver_reset() override { state_.write_back = true; }
    [[nodiscard]] Device& device() override { return *this; }

    void reset(ResetKind /*kind*/) override { state_ = {}; }

  protected:
    void after_load() override {}

  private:
    /// Of the byte that ends a request (5.2.6).
    enum class Status : uint8_t { ok = 0, io_error = 1, unsupported = 2 };
    struct Request {
        VirtqueueChain& chain;
        GuestMemory& memory;
        uint32_t type = 0;
        uint64_t sector = 0;
        uint32_t written = 0;
    };
    [[nodiscard]] std::optional<uint32_t> execute(VirtqueueChain& chain, GuestMemory& memory);
    Status dispatch(Request& request);
    Status read(Request& request);
    Status write(Request& request);
    Status flush();
    Status identify(Request& request);
    Status clear(Request& request);
    [[nodiscard]] bool has_sectors(uint64_t first, uint64_t count) const;
    [[nodiscard]] bool writes_back() const;

    std::unique_ptr<DiskDrive> disk_;
    VirtioIdentity identity_;
    std::vector<std::byte> scratch_;
};

/// viv,function = "block": viv,image, viv,serial, viv,read-only, viv,snapshot, viv,queues. Needs DriveRegistry.
Result<std::unique_ptr<VirtioFunction>> make_virtio_block(DeviceContext& context);

}  // namespace viv
