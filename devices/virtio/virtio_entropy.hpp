// Models: the virtio entropy device
// Not modelled: nothing
// Ignored bits: what the driver gives to read
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 5.4
#pragma once

#include <memory>

#include "devices/virtio/virtio_transport.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/entropy.hpp"

namespace viv {

struct VirtioEntropyState {
    uint64_t given = 0;  // bytes since power-on
    static void fields(auto& self, auto&& visit) { visit("given", self.given); }
    bool operator==(const VirtioEntropyState&) const = default;
};

class VirtioEntropy final : public StatefulDevice<VirtioEntropyState>, public VirtioFunction {
  public:
    /// What one buffer gets at most, in bytes.
    static constexpr uint64_t most_bytes = 64 * 1024;

    explicit VirtioEntropy(EntropySource& source) : source_(source) {}

    [[nodiscard]] const VirtioIdentity& identity() const override { return identity_; }
    void notified(unsigned queue) override;
    [[nodiscard]] Device& device() override { return *this; }

    /// Only a new machine begins anew: a reset that did would give the same bytes twice.
    void reset(ResetKind kind) override {
        if (kind == ResetKind::power_on) state_ = {};
    }

  protected:
    void after_load() override {}

  private:
    EntropySource& source_;
    VirtioIdentity identity_{.id = virtio::DeviceId::entropy, .class_code = 0x00FF00, .queue_sizes = {64}};
};

/// viv,function = "entropy". Needs EntropySource.
Result<std::unique_ptr<VirtioFunction>> make_virtio_entropy(DeviceContext& context);

}  // namespace viv
