#include "devices/virtio/virtio_mmio.hpp"

#include <utility>

namespace viv {
namespace {

using namespace virtio;

// 4.2.2
enum Register : uint16_t {
    MagicValue = 0x000,
    Version = 0x004,
    DeviceID = 0x008,
    VendorID = 0x00C,
    DeviceFeatures = 0x010,
    DeviceFeaturesSel = 0x014,
    DriverFeatures = 0x020,
    DriverFeaturesSel = 0x024,
    QueueSel = 0x030,
    QueueNumMax = 0x034,
    QueueNum = 0x038,
    QueueReady = 0x044,
    QueueNotify = 0x050,
    InterruptStatus = 0x060,
    InterruptACK = 0x064,
    Status = 0x070,
    QueueDescLow = 0x080,
    QueueDescHigh = 0x084,
    QueueDriverLow = 0x090,
    QueueDriverHigh = 0x094,
    QueueDeviceLow = 0x0A0,
    QueueDeviceHigh = 0x0A4,
    SHMLenLow = 0x0B0,
    SHMBaseHigh = 0x0BC,
    QueueReset = 0x0C0,
    ConfigGeneration = 0x0FC,
    Config = 0x100,
};

constexpr uint32_t magic = 0x74726976, version = 2, vendor = 0x1AF4;

void set_half(uint64_t& address, unsigned shift, uint32_t value) {
    address = (address & ~(uint64_t{0xFFFFFFFF} << shift)) | uint64_t{value} << shift;
}

}  // namespace

VirtioMmio::VirtioMmio(std::unique_ptr<VirtioFunction> function, Clock& clock, GuestMemory& memory, IrqLine irq,
                       uint64_t offered)
    : VirtioTransport(std::move(function), clock, state_.virtio, offered), memory_(memory), irq_(std::move(irq)) {
    reset(ResetKind::power_on);
}

VirtioMmio::~VirtioMmio() = default;

uint64_t VirtioMmio::read(Access access) {
    if (access.offset >= Config) return read_configuration(access.offset - Config, access.size);
    return access.size == 4 && access.offset % 4 == 0 ? read_register(access.offset) : 0;
}

void VirtioMmio::write(Access access, uint64_t value) {
    if (access.offset >= Config) return write_configuration(access.offset - Config, access.size, value);
    if (access.size == 4 && access.offset % 4 == 0) write_register(access.offset, static_cast<uint32_t>(value));
}

uint32_t VirtioMmio::read_register(uint64_t offset) {
    const VirtioState& virtio = state_.virtio;
    const VirtqueueState* queue = selected();
    switch (offset) {
        case MagicValue: return magic;
        case Version: return version;
        case DeviceID: return static_cast<uint32_t>(function().identity().id);
        case VendorID: return vendor;
        case DeviceFeatures:
            return virtio.offered_half > 1 ? 0
                                           : static_cast<uint32_t>(offered_features() >> (32 * virtio.offered_half));
        case QueueNumMax: return queue ? most_entries(virtio.selected) : 0;
        case QueueReady: return queue && queue->enabled ? 1 : 0;
        case InterruptStatus: return virtio.isr;
        case Status: return virtio.status;
        case ConfigGeneration: return virtio.generation;
        default: break;
    }
    // There is no shared memory: all ones (4.2.2).
    return offset >= SHMLenLow && offset <= SHMBaseHigh ? 0xFFFFFFFF : 0;
}

void VirtioMmio::write_register(uint64_t offset, uint32_t value) {
    VirtioState& virtio = state_.virtio;
    switch (offset) {
        case DeviceFeaturesSel: virtio.offered_half = value; return;
        case DriverFeaturesSel: virtio.accepted_half = value; return;
        case DriverFeatures: return accept_features(virtio.accepted_half, value);
        case QueueSel: virtio.selected = value; return;
        case QueueNotify: return tell(value);
        case InterruptACK: virtio.isr = static_cast<uint8_t>(virtio.isr & ~value); return update_irq();
        case Status: return write_status(static_cast<uint8_t>(value));
        default: break;
    }
    VirtqueueState* queue = selected();
    if (!queue) return;
    if (offset == QueueReset) {
        if (value == 1) reset_selected();
        return;
    }
    if (queue->enabled) {
        // Without a reset of its own a queue can be stopped (4.2.2.2).
        if (offset == QueueReady && value == 0) {
            this->function().settle();
            queue->enabled = false;
        }
        return;
    }
    switch (offset) {
        case QueueNum:
            if (value <= most_entries(virtio.selected)) queue->size = static_cast<uint16_t>(value);
            return;
        case QueueReady:
            if (value == 1) {
                queue->taken = queue->used = queue->untold = 0;
                queue->taken_wrap = queue->used_wrap = true;
                enable_selected();
            }
            return;
        case QueueDescLow: return set_half(queue->descriptors, 0, value);
        case QueueDescHigh: return set_half(queue->descriptors, 32, value);
        case QueueDriverLow: return set_half(queue->driver, 0, value);
        case QueueDriverHigh: return set_half(queue->driver, 32, value);
        case QueueDeviceLow: return set_half(queue->device, 0, value);
        case QueueDeviceHigh: return set_half(queue->device, 32, value);
        default: return;
    }
}

void VirtioMmio::interrupt(uint8_t reason, uint16_t /*vector*/) {
    state_.virtio.isr |= reason;
    update_irq();
}

void VirtioMmio::reset(ResetKind kind) {
    reset_virtio(kind);
}

TreeNode VirtioMmio::save() {
    TreeNode node = StatefulDevice::save();
    save_function(node);
    return node;
}

Result<Device::Commit> VirtioMmio::prepare_load(const TreeNode& node) {
    auto own = TRY(StatefulDevice::prepare_load(node));
    return prepare_function(node, std::move(own));
}

Result<void> VirtioMmio::validate(const VirtioMmioState& staged) const {
    return validate_virtio(staged.virtio);
}

void VirtioMmio::after_load() {
    virtio_loaded();
    update_irq();
}

}  // namespace viv
