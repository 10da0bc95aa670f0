#include "devices/virtio/virtio_entropy.hpp"

#include <algorithm>
#include <vector>

namespace viv {

void VirtioEntropy::notified(unsigned queue) {
    transport().serve(queue, [this](VirtqueueChain& chain, GuestMemory& memory) -> std::optional<uint32_t> {
        std::vector<std::byte> bytes(std::min(chain.writable_size, most_bytes));
        source_.fill(state_.given, bytes);
        if (!chain.write(memory, 0, bytes)) return 0;
        state_.given += bytes.size();
        return static_cast<uint32_t>(bytes.size());
    });
}

Result<std::unique_ptr<VirtioFunction>> make_virtio_entropy(DeviceContext& context) {
    EntropySource& source = *TRY(context.need<EntropySource>("a source of random bytes"));
    return std::make_unique<VirtioEntropy>(source);
}

}  // namespace viv
