#include "devices/virtio/virtio_pci.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace viv {
namespace {

using namespace virtio;

constexpr uint8_t capability_vendor = 0x09;
// cfg_type (4.1.4)
constexpr uint8_t common_cfg = 1, notify_cfg = 2, isr_cfg = 3, device_cfg = 4, pci_cfg = 5;
constexpr uint32_t notify_multiplier = 4;
// Offsets in the access capability.
constexpr unsigned cap_bar = 4, cap_offset = 8, cap_length = 12, cap_data = 16, cap_end = 20;

/// A field of a structure of registers.
struct Field {
    uint16_t offset;
    uint8_t size;
};

// 4.1.4.3
enum Common : uint16_t {
    DEVICE_FEATURE_SELECT = 0,
    DEVICE_FEATURE = 4,
    DRIVER_FEATURE_SELECT = 8,
    DRIVER_FEATURE = 12,
    CONFIG_MSIX_VECTOR = 16,
    NUM_QUEUES = 18,
    DEVICE_STATUS = 20,
    CONFIG_GENERATION = 21,
    QUEUE_SELECT = 22,
    QUEUE_SIZE = 24,
    QUEUE_MSIX_VECTOR = 26,
    QUEUE_ENABLE = 28,
    QUEUE_NOTIFY_OFF = 30,
    QUEUE_DESC = 32,
    QUEUE_DRIVER = 40,
    QUEUE_DEVICE = 48,
    QUEUE_NOTIFY_DATA = 56,
    QUEUE_RESET = 58,
};
constexpr std::array common_fields{
    Field{DEVICE_FEATURE_SELECT, 4}, Field{DEVICE_FEATURE, 4},
    Field{DRIVER_FEATURE_SELECT, 4}, Field{DRIVER_FEATURE, 4},
    Field{CONFIG_MSIX_VECTOR, 2},    Field{NUM_QUEUES, 2},
    Field{DEVICE_STATUS, 1},         Field{CONFIG_GENERATION, 1},
    Field{QUEUE_SELECT, 2},          Field{QUEUE_SIZE, 2},
    Field{QUEUE_MSIX_VECTOR, 2},     Field{QUEUE_ENABLE, 2},
    Field{QUEUE_NOTIFY_OFF, 2},      Field{QUEUE_DESC, 8},
    Field{QUEUE_DRIVER, 8},          Field{QUEUE_DEVICE, 8},
    Field{QUEUE_NOTIFY_DATA, 2},     Field{QUEUE_RESET, 2},
};

// 4.1.4.10
enum Legacy : uint16_t {
    HOST_FEATURES = 0,
    GUEST_FEATURES = 4,
    QUEUE_ADDRESS = 8,
    LEGACY_QUEUE_SIZE = 12,
    LEGACY_QUEUE_SELECT = 14,
    QUEUE_NOTIFY = 16,
    LEGACY_STATUS = 18,
    LEGACY_ISR = 19,
    LEGACY_CONFIG_VECTOR = 20,
    LEGACY_QUEUE_VECTOR = 22,
};
constexpr std::array legacy_fields{
    Field{HOST_FEATURES, 4},        Field{GUEST_FEATURES, 4},      Field{QUEUE_ADDRESS, 4}, Field{LEGACY_QUEUE_SIZE, 2},
    Field{LEGACY_QUEUE_SELECT, 2},  Field{QUEUE_NOTIFY, 2},        Field{LEGACY_STATUS, 1}, Field{LEGACY_ISR, 1},
    Field{LEGACY_CONFIG_VECTOR, 2}, Field{LEGACY_QUEUE_VECTOR, 2},
};
constexpr uint32_t legacy_window = 128;

/// Calls `visit(field, first, bytes, shift)` for each field that an access touches: bytes [first, first+bytes) of it
/// are at bit `shift` of the access's value.
template <class Fields, class Visit>
void for_each_field(const Fields& fields, Access access, Visit visit) {
    const uint64_t end = access.offset + access.size;
    for (const Field& field : fields) {
        const uint64_t from = std::max<uint64_t>(access.offset, field.offset);
        const uint64_t to = std::min<uint64_t>(end, uint64_t{field.offset} + field.size);
        if (from >= to) continue;
        visit(field, static_cast<unsigned>(from - field.offset), static_cast<unsigned>(to - from),
              static_cast<unsigned>(8 * (from - access.offset)));
    }
}

uint64_t ones(unsigned bytes) {
    return ~uint64_t{0} >> (64 - 8 * bytes);
}

template <class Fields, class Read>
uint64_t read_fields(const Fields& fields, Access access, Read read) {
    uint64_t value = 0;
    for_each_field(fields, access, [&](const Field& field, unsigned first, unsigned bytes, unsigned shift) {
        value |= (read(field.offset) >> (8 * first) & ones(bytes)) << shift;
    });
    return value;
}

/// A field of which some bytes are written keeps the others.
template <class Fields, class Read, class Write>
void write_fields(const Fields& fields, Access access, uint64_t value, Read read, Write write) {
    for_each_field(fields, access, [&](const Field& field, unsigned first, unsigned bytes, unsigned shift) {
        const uint64_t mask = ones(bytes) << (8 * first);
        const uint64_t kept = bytes == field.size ? 0 : read(field.offset) & ~mask;
        write(field.offset, kept | ((value >> shift << (8 * first)) & mask));
    });
}

PciIdentity pci_identity(const VirtioIdentity& identity) {
    constexpr uint16_t vendor = 0x1AF4, modern_base = 0x1040;
    const auto id = static_cast<uint16_t>(identity.id);
    PciIdentity pci{.vendor = vendor,
                    .device = static_cast<uint16_t>(modern_base + id),
                    .class_code = identity.class_code,
                    .revision = 1,
                    .subsystem_vendor = vendor,
                    .subsystem = 0x1100,
                    .interrupt_pin = 1};
    if (!identity.transitional) return pci;
    // Transitional devices have numbers of their own (4.1.2.1).
    pci.revision = 0;
    pci.subsystem = id;
    switch (identity.id) {
        case DeviceId::net: pci.device = 0x1000; break;
        case DeviceId::block: pci.device = 0x1001; break;
        case DeviceId::balloon: pci.device = 0x1002; break;
        case DeviceId::console: pci.device = 0x1003; break;
        case DeviceId::entropy: pci.device = 0x1005; break;
        case DeviceId::p9: pci.device = 0x1009; break;
        case DeviceId::input:
        case DeviceId::socket: VIV_ASSERT(false);
    }
    return pci;
}

}  // namespace

VirtioPci::VirtioPci(std::unique_ptr<VirtioFunction> function, Clock& clock, uint64_t offered)
    : VirtioTransport(std::move(function), clock, state_.virtio, offered),
      pci_(pci_identity(this->function().identity()), state_.pci),
      vectors_(static_cast<unsigned>(this->function().identity().queue_sizes.size()) + 1) {
    if (this->function().identity().transitional) pci_.add_io_bar(legacy_bar, legacy_window, legacy_);
    pci_.add_memory_bar(modern_bar, window, modern_, PciFunction::BarKind::memory_64);
    pci_.add_msix(vectors_, vectors_bar);
    add_capabilities();
    pci_.on_config_write([this](unsigned first, unsigned last) { config_written(first, last); });
    pci_.on_config_read([this](unsigned first, unsigned last) { config_read(first, last); });
    reset(ResetKind::power_on);
}

VirtioPci::~VirtioPci() {
    disarm_doorbells(Rung::forgotten);
}

void VirtioPci::add_capabilities() {
    const auto add = [this](uint8_t type, unsigned size, uint64_t offset, uint64_t length) {
        const uint8_t at = pci_.add_capability(capability_vendor, size);
        const auto place = [at](unsigned inner) { return static_cast<uint8_t>(at + inner); };
        const bool changes = type == pci_cfg;
        pci_.add_register(place(2), 1, size);
        pci_.add_register(place(3), 1, type);
        pci_.add_register(place(cap_bar), 1, changes ? 0 : modern_bar, changes ? 0xFF : 0);
        pci_.add_register(place(cap_offset), 4, static_cast<uint32_t>(offset), changes ? 0xFFFFFFFF : 0);
        pci_.add_register(place(cap_length), 4, static_cast<uint32_t>(length), changes ? 0xFFFFFFFF : 0);
        return at;
    };
    add(common_cfg, 16, common, 0x1000);
    add(isr_cfg, 16, isr, 0x1000);
    add(device_cfg, 16, configuration, 0x1000);
    const uint8_t notifications = add(notify_cfg, 20, notify, 0x1000);
    pci_.add_register(static_cast<uint8_t>(notifications + 16), 4, notify_multiplier);
    access_ = add(pci_cfg, cap_end, 0, 0);
    pci_.add_register(static_cast<uint8_t>(access_ + cap_data), 4, 0, 0xFFFFFFFF, 0xFFFFFFFF);
}

// ---- BAR 4 ---------------------------------------------------------------------------------------------------------

uint64_t VirtioPci::Modern::read(Access access) {
    if (access.offset < isr) {
        return read_fields(common_fields, access, [this](uint64_t field) { return owner_.read_common(field); });
    }
    if (access.offset < configuration) return access.offset == isr ? owner_.take_isr() : 0;
    if (access.offset < notify) return owner_.read_configuration(access.offset - configuration, access.size);
    return 0;
}

void VirtioPci::Modern::write(Access access, uint64_t value) {
    if (access.offset < isr) {
        return write_fields(
            common_fields, access, value, [this](uint64_t field) { return owner_.read_common(field); },
            [this](uint64_t field, uint64_t bits) { owner_.write_common(field, bits); });
    }
    if (access.offset < configuration) return;
    if (access.offset < notify) return owner_.write_configuration(access.offset - configuration, access.size, value);
    // The address alone says which queue.
    owner_.tell((access.offset - notify) / notify_multiplier);
    owner_.arm_doorbells();
}

uint64_t VirtioPci::read_common(uint64_t field) {
    const VirtioState& virtio = state_.virtio;
    const VirtqueueState* queue = selected();
    switch (field) {
        case DEVICE_FEATURE_SELECT: return virtio.offered_half;
        case DEVICE_FEATURE:
            return virtio.offered_half > 1 ? 0 : offered_features() >> (32 * virtio.offered_half) & 0xFFFFFFFF;
        case DRIVER_FEATURE_SELECT: return virtio.accepted_half;
        case DRIVER_FEATURE:
            return virtio.accepted_half > 1 ? 0 : virtio.features >> (32 * virtio.accepted_half) & 0xFFFFFFFF;
        case CONFIG_MSIX_VECTOR: return virtio.configuration_vector;
        case NUM_QUEUES: return virtio.queues.size();
        case DEVICE_STATUS: return virtio.status;
        case CONFIG_GENERATION: return virtio.generation;
        case QUEUE_SELECT: return virtio.selected;
        default: break;
    }
    if (!queue) return field == QUEUE_MSIX_VECTOR ? NO_VECTOR : 0;
    switch (field) {
        case QUEUE_SIZE: return queue->size;
        case QUEUE_MSIX_VECTOR: return queue->vector;
        case QUEUE_ENABLE: return queue->enabled;
        case QUEUE_NOTIFY_OFF:
        case QUEUE_NOTIFY_DATA: return virtio.selected;
        case QUEUE_DESC: return queue->descriptors;
        case QUEUE_DRIVER: return queue->driver;
        case QUEUE_DEVICE: return queue->device;
        default: return 0;  // a reset of a queue is over in the access that asks for it
    }
}

void VirtioPci::write_common(uint64_t field, uint64_t value) {
    VirtioState& virtio = state_.virtio;
    switch (field) {
        case DEVICE_FEATURE_SELECT: virtio.offered_half = static_cast<uint32_t>(value); return;
        case DRIVER_FEATURE_SELECT: virtio.accepted_half = static_cast<uint32_t>(value); return;
        case DRIVER_FEATURE: return accept_features(virtio.accepted_half, static_cast<uint32_t>(value));
        case CONFIG_MSIX_VECTOR: return set_vector(virtio.configuration_vector, value);
        case DEVICE_STATUS: return write_status(static_cast<uint8_t>(value));
        case QUEUE_SELECT: virtio.selected = static_cast<uint16_t>(value); return;
        default: break;
    }
    VirtqueueState* queue = selected();
    if (!queue) return;
    switch (field) {
        case QUEUE_MSIX_VECTOR: return set_vector(queue->vector, value);
        case QUEUE_RESET:
            if (value == 1) reset_selected();
            return;
        default: break;
    }
    if (queue->enabled) return;
    switch (field) {
        case QUEUE_SIZE:
            if (value <= most_entries(virtio.selected)) queue->size = static_cast<uint16_t>(value);
            return;
        case QUEUE_ENABLE:
            if (value == 1) enable_selected();
            return;
        case QUEUE_DESC: queue->descriptors = value; return;
        case QUEUE_DRIVER: queue->driver = value; return;
        case QUEUE_DEVICE: queue->device = value; return;
        default: return;
    }
}

/// A vector that the table does not have cannot be had, which the driver sees when it reads it back (4.1.5.1.2.1).
void VirtioPci::set_vector(uint16_t& vector, uint64_t value) const {
    vector = value < vectors_ ? static_cast<uint16_t>(value) : NO_VECTOR;
}

// ---- BAR 0 ---------------------------------------------------------------------------------------------------------

/// Where the function's configuration begins: behind the vectors while MSI-X is on.
uint64_t VirtioPci::legacy_header() const {
    return pci_.vectors() > 0 ? LEGACY_QUEUE_VECTOR + 2 : LEGACY_CONFIG_VECTOR;
}

uint64_t VirtioPci::Legacy::read(Access access) {
    const uint64_t header = owner_.legacy_header();
    if (access.offset >= header) return owner_.read_configuration(access.offset - header, access.size);
    return read_fields(legacy_fields, access, [&](uint64_t field) { return owner_.read_legacy(field); });
}

void VirtioPci::Legacy::write(Access access, uint64_t value) {
    const uint64_t header = owner_.legacy_header();
    if (access.offset >= header) return owner_.write_configuration(access.offset - header, access.size, value);
    write_fields(
        legacy_fields, access, value, [this](uint64_t field) { return owner_.read_legacy(field); },
        [&](uint64_t field, uint64_t bits) {
            if (field < header) owner_.write_legacy(field, bits);
        });
}

uint64_t VirtioPci::read_legacy(uint64_t field) {
    const VirtqueueState* queue = selected();
    switch (field) {
        case HOST_FEATURES: return (offered_features() | ANY_LAYOUT) & 0xFFFFFFFF;
        case GUEST_FEATURES: return state_.virtio.features & 0xFFFFFFFF;
        case QUEUE_ADDRESS: return queue && queue->enabled ? queue->descriptors >> 12 & 0xFFFFFFFF : 0;
        case LEGACY_QUEUE_SIZE: return queue ? queue->size : 0;
        case LEGACY_QUEUE_SELECT: return state_.virtio.selected;
        case LEGACY_STATUS: return state_.virtio.status;
        case LEGACY_ISR: return take_isr();
        case LEGACY_CONFIG_VECTOR: return state_.virtio.configuration_vector;
        case LEGACY_QUEUE_VECTOR: return queue ? queue->vector : NO_VECTOR;
        default: return 0;
    }
}

void VirtioPci::write_legacy(uint64_t field, uint64_t value) {
    VirtqueueState* queue = selected();
    switch (field) {
        case GUEST_FEATURES: accept_features(0, static_cast<uint32_t>(value)); return accept_features(1, 0);
        case QUEUE_ADDRESS: return place_selected_legacy(static_cast<uint32_t>(value));
        case LEGACY_QUEUE_SELECT: state_.virtio.selected = static_cast<uint16_t>(value); return;
        case QUEUE_NOTIFY: return tell(value);
        case LEGACY_STATUS: return write_status(static_cast<uint8_t>(value));
        case LEGACY_CONFIG_VECTOR: return set_vector(state_.virtio.configuration_vector, value);
        case LEGACY_QUEUE_VECTOR:
            if (queue) set_vector(queue->vector, value);
            return;
        default: return;
    }
}

// ---- Configuration space -------------------------------------------------------------------------------------------

bool VirtioPci::window_access(Access& access) const {
    const auto number = [this](unsigned offset, unsigned size) {
        uint32_t value = 0;
        for (unsigned i = 0; i < size; ++i) value |= uint32_t{state_.pci.config[access_ + offset + i]} << (8 * i);
        return value;
    };
    const uint32_t offset = number(cap_offset, 4), length = number(cap_length, 4);
    if (number(cap_bar, 1) != modern_bar || (length != 1 && length != 2 && length != 4)) return false;
    if (offset % length != 0 || offset > window - length) return false;
    access = {offset, static_cast<uint8_t>(length)};
    return true;
}

void VirtioPci::config_read(unsigned first, unsigned last) {
    const unsigned data = access_ + cap_data;
    Access access;
    if (first >= data + 4 || last < data || !window_access(access)) return;
    const uint64_t value = modern_.read(access);
    for (unsigned i = 0; i < access.size; ++i) {
        pci_.poke(static_cast<uint8_t>(data + i), static_cast<uint8_t>(value >> (8 * i)));
    }
}

void VirtioPci::config_written(unsigned first, unsigned last) {
    const unsigned data = access_ + cap_data;
    Access access;
    if (first < data + 4 && last >= data && window_access(access)) {
        uint64_t value = 0;
        for (unsigned i = 0; i < access.size; ++i) value |= uint64_t{state_.pci.config[data + i]} << (8 * i);
        modern_.write(access, value);
    }
    if (!bells_.empty() && (!(pci_.command() & pci::MEMORY_SPACE) || notify_address(0) != bells_at_)) {
        disarm_doorbells(Rung::kept);
    }
    // Memory that may be reached no more is not written to from here on.
    if (!memory()) this->function().settle();
    // The function may be bus master now.
    if (state_.virtio.waiting && !state_.virtio.resume) run_waiting();
}

// ---- Interrupts ----------------------------------------------------------------------------------------------------

uint8_t VirtioPci::take_isr() {
    const uint8_t reasons = std::exchange(state_.virtio.isr, uint8_t{0});
    update_irq();
    return reasons;
}

void VirtioPci::interrupt(uint8_t reason, uint16_t vector) {
    if (pci_.vectors() > 0) {
        if (vector != NO_VECTOR) pci_.notify(vector);
        return;
    }
    state_.virtio.isr |= reason;
    update_irq();
}

void VirtioPci::update_irq() {
    pci_.set_interrupt(state_.virtio.isr != 0);
}

// ---- Doorbells ------------------------------------------------------------------------------------------------------

void VirtioPci::use_doorbells(Doorbells& doorbells, EventLoop& loop) {
    doorbells_ = &doorbells;
    loop_ = &loop;
}

uint64_t VirtioPci::notify_address(size_t queue) const {
    return pci_.bar(modern_bar) + notify + notify_multiplier * queue;
}

/// With the first notification that comes by the bus: then the driver is at work. Drivers write 16 bits (4.1.5.2).
void VirtioPci::arm_doorbells() {
    if (!doorbells_ || bells_refused_ || !bells_.empty() || !running()) return;
    bells_at_ = notify_address(0);
    for (size_t queue = 0; queue < state_.virtio.queues.size(); ++queue) {
        HostEvent event;
        if (event.descriptor() < 0 || !doorbells_->add_doorbell(notify_address(queue), 2, event.descriptor())) {
            bells_refused_ = true;
            return disarm_doorbells(Rung::kept);
        }
        auto watch = loop_->watch(event.descriptor(), EventLoop::Ready::read, [this, queue] {
            if (bells_[queue].event.take()) tell(queue);
        });
        bells_.push_back({std::move(event), std::move(watch)});
    }
}

void VirtioPci::disarm_doorbells(Rung rung) {
    for (size_t queue = 0; queue < bells_.size(); ++queue) {
        Bell& bell = bells_[queue];
        doorbells_->remove_doorbell(bells_at_ + notify_multiplier * queue, 2, bell.event.descriptor());
        if (bell.event.take() && rung == Rung::kept) go_on_in_a_moment(static_cast<unsigned>(queue));
        bell.watch.reset();
    }
    bells_.clear();
}

void VirtioPci::interrupts_reset() {
    update_irq();
    disarm_doorbells(Rung::forgotten);
}

// ---- State ---------------------------------------------------------------------------------------------------------

void VirtioPci::reset(ResetKind kind) {
    pci_.reset();
    reset_virtio(kind);
}

TreeNode VirtioPci::save() {
    for (size_t queue = 0; queue < bells_.size(); ++queue) {
        if (bells_[queue].event.take()) go_on_in_a_moment(static_cast<unsigned>(queue));
    }
    TreeNode node = StatefulDevice::save();
    save_function(node);
    return node;
}

Result<Device::Commit> VirtioPci::prepare_load(const TreeNode& node) {
    auto own = TRY(StatefulDevice::prepare_load(node));
    return prepare_function(node, std::move(own));
}

Result<void> VirtioPci::validate(const VirtioPciState& staged) const {
    TRY(validate_virtio(staged.virtio));
    const auto known = [this](uint16_t vector) { return vector < vectors_ || vector == NO_VECTOR; };
    const auto known_queue = [&](const VirtqueueState& queue) { return known(queue.vector); };
    if (!known(staged.virtio.configuration_vector) || !std::ranges::all_of(staged.virtio.queues, known_queue) ||
        staged.pci.interrupt != (staged.virtio.isr != 0)) {
        return fail("the saved state of the virtio device has interrupts that cannot be");
    }
    return pci_.validate(staged.pci);
}

void VirtioPci::after_load() {
    disarm_doorbells(Rung::forgotten);
    pci_.after_load();
    virtio_loaded();
}

}  // namespace viv
