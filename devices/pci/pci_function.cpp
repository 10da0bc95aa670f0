#include "devices/pci/pci_function.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "devices/pci/pci_bus.hpp"
#include "devices/pci/rom/expansion_rom.hpp"

namespace viv {
namespace {

using namespace pci;

// MSI capability (6.8.1), as offsets in it.
constexpr unsigned msi_control = 2, msi_address = 4, msi_address_high = 8, msi_data = 12, msi_mask = 16,
                   msi_pending = 20, msi_size = 24;
constexpr uint16_t MSI_ENABLE = 0x0001, MSI_MULTIPLE_ENABLE = 0x0070, MSI_64_BIT = 0x0080, MSI_MASKS = 0x0100;
// MSI-X capability (6.8.2).
constexpr unsigned msix_control = 2, msix_table_at = 4, msix_pending_at = 8, msix_size = 12;
constexpr uint16_t MSIX_FUNCTION_MASK = 0x4000, MSIX_ENABLE = 0x8000;
constexpr uint32_t MSIX_MASKED = 1;  // vector control
constexpr uint32_t pending_offset = 0x800;
constexpr uint64_t msix_window_size = 0x1000;
constexpr unsigned most_msix_vectors = pending_offset / 16;

}  // namespace

bool PciWindow::operator==(const PciWindow& other) const {
    const auto file = [](const PciWindow& w) { return w.store ? std::optional(w.store->backing) : std::nullopt; };
    return space == other.space && base == other.base && size == other.size && device == other.device &&
           kind == other.kind && file(*this) == file(other) && offset == other.offset;
}

bool PciWindow::overlaps(const PciWindow& other) const {
    return space == other.space && base <= other.base + (other.size - 1) && other.base <= base + (size - 1);
}

/// The BAR of MSI-X: the table at 0, the pending bits at 800h.
class PciFunction::MsixTable final : public BusDevice {
  public:
    explicit MsixTable(PciFunction& function) : function_(function) {}

    uint64_t read(Access access) override {
        uint64_t value = 0;
        for (unsigned i = 0; i < access.size; ++i) value |= uint64_t{byte_at(access.offset + i)} << (8 * i);
        return value;
    }

    void write(Access access, uint64_t value) override {
        auto& table = function_.state_.msix;
        for (unsigned i = 0; i < access.size; ++i) {
            const uint64_t at = access.offset + i;
            if (at / 4 >= table.size()) return;
            constexpr std::array<uint32_t, 4> writable = {0xFFFFFFFC, 0xFFFFFFFF, 0xFFFFFFFF, MSIX_MASKED};
            const unsigned shift = 8 * (at % 4);
            const uint32_t mask = writable[at / 4 % 4] & (uint32_t{0xFF} << shift);
            const auto bits = static_cast<uint32_t>((value >> (8 * i) & 0xFF) << shift);
            table[at / 4] = (table[at / 4] & ~mask) | (bits & mask);
        }
        function_.send_pending();
    }

  private:
    [[nodiscard]] uint8_t byte_at(uint64_t offset) const {
        const PciFunctionState& state = function_.state_;
        if (offset / 4 < state.msix.size()) return static_cast<uint8_t>(state.msix[offset / 4] >> (8 * (offset % 4)));
        if (offset < pending_offset) return 0;
        uint8_t bits = 0;
        for (unsigned i = 0; i < 8; ++i) {
            const uint64_t vector = (offset - pending_offset) * 8 + i;
            if (vector < state.msix_pending.size() && state.msix_pending[vector]) bits |= static_cast<uint8_t>(1 << i);
        }
        return bits;
    }

    PciFunction& function_;
};

PciFunction::PciFunction(const PciIdentity& identity, PciFunctionState& state) : state_(state) {
    add_register(VENDOR_ID, 2, identity.vendor);
    add_register(DEVICE_ID, 2, identity.device);
    add_register(COMMAND, 2, 0, BUS_MASTER | PARITY_RESPONSE | SERR | INTERRUPT_DISABLE);
    add_register(STATUS, 2, MEDIUM_DEVSEL, 0, INTERRUPT_STATUS);
    add_clearable(STATUS + 1, ERROR_BITS >> 8);
    add_register(REVISION_ID, 4, identity.class_code << 8 | identity.revision);
    add_register(CACHE_LINE_SIZE, 1, 0, 0xFF);
    add_register(LATENCY_TIMER, 1, 0, 0xF8);
    add_register(SUBSYSTEM_VENDOR_ID, 2, identity.subsystem_vendor);
    add_register(SUBSYSTEM_ID, 2, identity.subsystem);
    add_register(INTERRUPT_PIN, 1, identity.interrupt_pin);
    if (identity.interrupt_pin) add_register(INTERRUPT_LINE, 1, 0, 0xFF);
}

PciFunction::~PciFunction() {
    if (bus_) bus_->detach(*this);
}

void PciFunction::add_register(uint8_t offset, unsigned size, uint32_t reset_value, uint32_t writable, uint32_t poked) {
    for (unsigned i = 0; i < size; ++i) {
        reset_.at(offset + i) = static_cast<uint8_t>(reset_value >> (8 * i));
        writable_.at(offset + i) = static_cast<uint8_t>(writable >> (8 * i));
        poked_.at(offset + i) = static_cast<uint8_t>(poked >> (8 * i));
    }
}

void PciFunction::add_clearable(uint8_t offset, uint8_t bits) {
    clearable_[offset] = bits;
}

unsigned PciFunction::bar_offset(unsigned index) {
    return index == rom_index ? unsigned{ROM_BAR} : BAR0 + 4 * index;
}

PciFunction::Bar& PciFunction::describe_bar(unsigned index, uint64_t size, uint32_t type_bits) {
    VIV_ASSERT(index <= rom_index && bars_[index].size == 0 && std::has_single_bit(size));
    Bar& bar = bars_[index];
    bar.size = size;
    bar.io = index != rom_index && (type_bits & BAR_IO);
    bar.wide = index != rom_index && (type_bits & BAR_64_BIT);
    const uint64_t writable = ~(size - 1);
    const auto offset = static_cast<uint8_t>(bar_offset(index));
    const uint32_t enable = index == rom_index ? ROM_ENABLE : 0;
    add_register(offset, 4, type_bits, static_cast<uint32_t>(writable) | enable);
    if (bar.wide) {
        VIV_ASSERT(index < 5 && bars_[index + 1].size == 0);
        add_register(static_cast<uint8_t>(offset + 4), 4, 0, static_cast<uint32_t>(writable >> 32));
    } else {
        VIV_ASSERT(size <= uint64_t{1} << 31);
    }
    const uint16_t space = bar.io ? IO_SPACE : MEMORY_SPACE;
    writable_[COMMAND] = static_cast<uint8_t>(writable_[COMMAND] | space);
    return bar;
}

namespace {
uint32_t type_of(PciFunction::BarKind kind) {
    using enum PciFunction::BarKind;
    const bool wide = kind == memory_64 || kind == prefetchable_64;
    const bool prefetchable = kind == prefetchable_32 || kind == prefetchable_64;
    return (wide ? BAR_64_BIT : 0) | (prefetchable ? BAR_PREFETCHABLE : 0);
}
}  // namespace

void PciFunction::add_io_bar(unsigned index, uint32_t size, BusDevice& device) {
    VIV_ASSERT(size >= 4 && size <= 256);
    describe_bar(index, size, BAR_IO).device = &device;
}

void PciFunction::add_memory_bar(unsigned index, uint64_t size, BusDevice& device, BarKind kind) {
    VIV_ASSERT(size >= 16);
    describe_bar(index, size, type_of(kind)).device = &device;
}

void PciFunction::add_ram_bar(unsigned index, GuestMemory::Store store, BarKind kind) {
    describe_bar(index, store.size, type_of(kind)).store = store;
}

void PciFunction::add_rom_bar(GuestMemory::Store store) {
    Bar& bar = describe_bar(rom_index, store.size, 0);
    bar.store = store;
    bar.kind = GuestMemory::Kind::rom;
}

uint8_t PciFunction::add_capability(uint8_t id, unsigned size) {
    const uint8_t at = next_capability_;
    VIV_ASSERT(at + size <= config_size);
    next_capability_ = static_cast<uint8_t>((at + size + 3) & ~3u);
    add_register(last_link_, 1, at);
    add_register(at, 2, id);
    last_link_ = static_cast<uint8_t>(at + 1);
    reset_[STATUS] |= CAPABILITIES_LIST;
    return at;
}

void PciFunction::add_msi(unsigned vectors) {
    VIV_ASSERT(std::has_single_bit(vectors) && vectors <= 32 && !msi_);
    msi_ = add_capability(CAPABILITY_MSI, msi_size);
    msi_vectors_ = vectors;
    const auto at = [this](unsigned offset) { return static_cast<uint8_t>(msi_ + offset); };
    const uint32_t every_vector = vectors == 32 ? ~uint32_t{0} : (uint32_t{1} << vectors) - 1;
    const auto capable = static_cast<uint32_t>(std::countr_zero(vectors)) << 1;
    add_register(at(msi_control), 2, capable | MSI_64_BIT | MSI_MASKS, MSI_ENABLE | MSI_MULTIPLE_ENABLE);
    add_register(at(msi_address), 4, 0, 0xFFFFFFFC);
    add_register(at(msi_address_high), 4, 0, 0xFFFFFFFF);
    add_register(at(msi_data), 2, 0, 0xFFFF);
    add_register(at(msi_mask), 4, 0, every_vector);
    add_register(at(msi_pending), 4, 0, 0, every_vector);
}

void PciFunction::add_msix(unsigned vectors, unsigned bar) {
    VIV_ASSERT(vectors >= 1 && vectors <= most_msix_vectors && !msix_ && bar < rom_index);
    msix_ = add_capability(CAPABILITY_MSI_X, msix_size);
    msix_vectors_ = vectors;
    const auto at = [this](unsigned offset) { return static_cast<uint8_t>(msix_ + offset); };
    add_register(at(msix_control), 2, vectors - 1, MSIX_FUNCTION_MASK | MSIX_ENABLE);
    add_register(at(msix_table_at), 4, bar);
    add_register(at(msix_pending_at), 4, pending_offset | bar);
    msix_table_ = std::make_unique<MsixTable>(*this);
    add_memory_bar(bar, msix_window_size, *msix_table_);
}

Result<void> PciFunction::attach(const DeviceContext& context) {
    const auto reg = context.node.cells("reg");
    if (reg.size() != 2 || reg[0] > 31 || reg[1] > 7) {
        return context.refuse("`reg` is not <device function> (0 to 31, 0 to 7)");
    }
    if (const auto rom = context.node.string("viv,rom")) {
        if (bars_[rom_index].size != 0) return context.refuse("has a ROM of its own, and takes no other");
        add_rom_bar(TRY(load_expansion_rom(context, *rom)));
    }
    PciBus& bus = *TRY(context.need<PciBus>("a PCI bus"));
    const PciAddress address{0, static_cast<uint8_t>(reg[0]), static_cast<uint8_t>(reg[1])};
    return bus.attach(address, *this, context.path);
}

void PciFunction::become_multi_function() {
    reset_[HEADER_TYPE] |= MULTI_FUNCTION;
    state_.config[HEADER_TYPE] |= MULTI_FUNCTION;
}

void PciFunction::reset() {
    state_ = {};
    state_.config = reset_;
    state_.msix.assign(size_t{msix_vectors_} * 4, 0);
    for (size_t i = 3; i < state_.msix.size(); i += 4) state_.msix[i] = MSIX_MASKED;
    state_.msix_pending.assign(msix_vectors_, 0);
    update_intx();
    remap();
}

Result<void> PciFunction::validate(const PciFunctionState& staged) const {
    for (unsigned i = 0; i < config_size; ++i) {
        const auto fixed = static_cast<uint8_t>(~(writable_[i] | clearable_[i] | poked_[i]));
        if ((staged.config[i] ^ reset_[i]) & fixed)
            return fail(fmt::format("PCI configuration: byte {:#x} of the saved state is of another device", i));
    }
    if (staged.msix.size() != size_t{msix_vectors_} * 4 || staged.msix_pending.size() != msix_vectors_)
        return fail("MSI-X: the saved state has another number of vectors");
    for (size_t i = 0; i < staged.msix.size(); i += 4) {
        if ((staged.msix[i] & 3) || (staged.msix[i + 3] & ~MSIX_MASKED))
            return fail("MSI-X: the saved state has bits that do not exist");
    }
    if (std::ranges::any_of(staged.msix_pending, [](uint8_t flag) { return flag > 1; }))
        return fail("MSI-X: a pending bit of the saved state is neither 0 nor 1");
    return {};
}

void PciFunction::after_load() {
    update_intx();
    remap();
}

uint16_t PciFunction::word(unsigned offset) const {
    return static_cast<uint16_t>(state_.config[offset] | state_.config[offset + 1] << 8);
}

uint32_t PciFunction::dword(unsigned offset) const {
    return word(offset) | static_cast<uint32_t>(word(offset + 2)) << 16;
}

void PciFunction::poke(uint8_t offset, uint8_t value) {
    VIV_ASSERT(((state_.config[offset] ^ value) & ~poked_[offset]) == 0);
    state_.config[offset] = value;
}

uint64_t PciFunction::bar(unsigned index) const {
    const Bar& bar = bars_.at(index);
    if (bar.size == 0) return 0;
    uint64_t base = dword(bar_offset(index));
    if (bar.wide) base |= uint64_t{dword(bar_offset(index) + 4)} << 32;
    return base & ~(bar.size - 1);
}

void PciFunction::collect(std::vector<PciWindow>& windows) {
    for (unsigned i = 0; i < bars_.size(); ++i) {
        const Bar& bar = bars_[i];
        if (bar.size == 0 || !(command() & (bar.io ? IO_SPACE : MEMORY_SPACE))) continue;
        if (i == rom_index && !(dword(ROM_BAR) & ROM_ENABLE)) continue;
        windows.push_back({bar.io ? PciWindow::Space::ports : PciWindow::Space::memory, this->bar(i), bar.size,
                           bar.device, bar.store, bar.kind});
    }
    if (decoder_) decoder_(windows);
}

void PciFunction::remap() {
    if (bus_) bus_->remap();
}

void PciFunction::tell_of_read(unsigned offset, unsigned size) {
    size = std::min(size, 4u);
    if (!read_listener_ || size == 0 || offset >= config_size) return;
    read_listener_(offset, std::min(offset + size, config_size) - 1);
}

uint32_t PciFunction::config_read(unsigned offset, unsigned size) const {
    uint32_t value = 0;
    for (unsigned i = 0; i < size && i < 4; ++i) {
        const uint8_t byte = offset + i < config_size ? state_.config[offset + i] : 0xFF;
        value |= uint32_t{byte} << (8 * i);
    }
    return value;
}

void PciFunction::config_write(unsigned offset, unsigned size, uint32_t value) {
    size = std::min(size, 4u);
    if (size == 0 || offset >= config_size) return;
    const unsigned last = std::min(offset + size, config_size) - 1;
    for (unsigned at = offset; at <= last; ++at) {
        const auto bits = static_cast<uint8_t>(value >> (8 * (at - offset)));
        uint8_t& byte = state_.config[at];
        byte = static_cast<uint8_t>((byte & ~writable_[at]) | (bits & writable_[at]));
        byte = static_cast<uint8_t>(byte & ~(bits & clearable_[at]));
    }
    const auto touches = [&](unsigned first, unsigned bytes) { return offset < first + bytes && last >= first; };
    if (touches(COMMAND, 2) || touches(msi_, msi_ ? msi_size : 0) || touches(msix_, msix_ ? msix_size : 0)) {
        update_intx();
        send_pending();
    }
    if (touches(COMMAND, 2) || touches(BAR0, 24) || touches(ROM_BAR, 4)) remap();
    if (listener_) listener_(offset, last);
}

bool PciFunction::msi_enabled() const {
    return msi_ && (word(msi_ + msi_control) & MSI_ENABLE);
}

bool PciFunction::msix_enabled() const {
    return msix_ && (word(msix_ + msix_control) & MSIX_ENABLE);
}

void PciFunction::update_intx() {
    auto& status = state_.config[STATUS];
    status = static_cast<uint8_t>((status & ~INTERRUPT_STATUS) | (state_.interrupt ? INTERRUPT_STATUS : 0));
    intx_.set(state_.interrupt && !(command() & INTERRUPT_DISABLE) && !msi_enabled() && !msix_enabled());
}

void PciFunction::set_interrupt(bool level) {
    const bool rises = !std::exchange(state_.interrupt, level) && level;
    update_intx();
    if (rises && msi_enabled() && !msix_enabled()) notify(0);
}

unsigned PciFunction::vectors() const {
    if (msix_enabled()) return msix_vectors_;
    if (!msi_enabled()) return 0;
    const unsigned enabled = 1u << std::min(5, (word(msi_ + msi_control) & MSI_MULTIPLE_ENABLE) >> 4);
    return std::min(enabled, msi_vectors_);
}

void PciFunction::notify(unsigned vector) {
    if (msix_enabled()) {
        if (vector >= msix_vectors_) return;
        state_.msix_pending[vector] = 1;
    } else if (msi_enabled()) {
        const unsigned bit = vector < vectors() ? vector : 0;
        uint8_t& byte = state_.config[msi_ + msi_pending + bit / 8];
        byte = static_cast<uint8_t>(byte | 1u << (bit % 8));
    }
    send_pending();
}

/// Sends what is pending and not masked.
void PciFunction::send_pending() {
    if (msix_enabled()) {
        if (word(msix_ + msix_control) & MSIX_FUNCTION_MASK) return;
        for (unsigned i = 0; i < msix_vectors_; ++i) {
            const uint32_t* entry = &state_.msix[size_t{i} * 4];
            if (!state_.msix_pending[i] || (entry[3] & MSIX_MASKED)) continue;
            state_.msix_pending[i] = 0;
            send(uint64_t{entry[1]} << 32 | entry[0], entry[2]);
        }
    } else if (msi_enabled()) {
        const uint32_t ready = dword(msi_ + msi_pending) & ~dword(msi_ + msi_mask);
        if (!ready) return;
        const uint64_t address = uint64_t{dword(msi_ + msi_address_high)} << 32 | dword(msi_ + msi_address);
        for (unsigned i = 0; i < msi_vectors_; ++i) {
            if (!(ready >> i & 1)) continue;
            uint8_t& byte = state_.config[msi_ + msi_pending + i / 8];
            byte = static_cast<uint8_t>(byte & ~(1u << (i % 8)));
            send(address, (word(msi_ + msi_data) & ~(vectors() - 1)) | (i & (vectors() - 1)));
        }
    }
}

/// A message is a write to memory, which a function that is not bus master cannot do.
void PciFunction::send(uint64_t address, uint32_t data) {
    if (bus_ && (command() & BUS_MASTER)) bus_->send(address, data);
}

GuestMemory* PciFunction::dma() const {
    return bus_ && (command() & BUS_MASTER) ? &bus_->memory() : nullptr;
}

}  // namespace viv
