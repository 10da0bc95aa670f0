// Models: the configuration space of a PCI function: header type 0, BARs and ROM BAR, capability list, MSI, MSI-X, INTx
// Not modelled: errors on the bus, BIST, power management states, cycles of other masters to a function's own BARs
// Ignored bits: COMMAND but I/O, memory, master, parity, SERR and interrupt disable; the cache line size has no effect
// Reference: PCI Local Bus Specification 3.0, chapter 6
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/pci/pci_registers.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/irq_line.hpp"
#include "vmm/core/result.hpp"

namespace viv {

class PciBus;

/// What never changes of a function.
struct PciIdentity {
    uint16_t vendor = 0;
    uint16_t device = 0;
    uint32_t class_code = 0;  // base class, subclass, interface: 0x010601
    uint8_t revision = 0;
    uint16_t subsystem_vendor = 0;
    uint16_t subsystem = 0;
    uint8_t interrupt_pin = 0;  // 0: none, 1 to 4: INTA# to INTD#
};

/// What a guest can change of it: a field of the state of the device that the function is of.
struct PciFunctionState {
    std::array<uint8_t, pci::config_size> config{};
    bool interrupt = false;             // what the device last said with set_interrupt()
    std::vector<uint32_t> msix;         // four words a vector: address, its upper half, data, control
    std::vector<uint8_t> msix_pending;  // 0 or 1 a vector
    static void fields(auto& self, auto&& visit) {
        visit("config", self.config);
        visit("interrupt", self.interrupt);
        visit("msix", self.msix);
        visit("msix-pending", self.msix_pending);
    }
    bool operator==(const PciFunctionState&) const = default;
};

/// A stretch of ports or memory that a function decodes now: registers, or memory that is shown as it is.
struct PciWindow {
    enum class Space : uint8_t { ports, memory };
    Space space = Space::memory;
    uint64_t base = 0;
    uint64_t size = 0;
    BusDevice* device = nullptr;                      // registers, or
    std::optional<GuestMemory::Store> store = {};     // memory
    GuestMemory::Kind kind = GuestMemory::Kind::ram;  // of the memory
    uint64_t offset = 0;                              // of the memory, in the store
    [[nodiscard]] bool operator==(const PciWindow& other) const;
    [[nodiscard]] bool overlaps(const PciWindow& other) const;
};

/// One function of a PCI device: a member of the Device that it is of, which describes it in its constructor, puts it
/// on the bus with attach(), and hands on reset, validation and load. Example:
///
///     struct State { PciFunctionState pci; ... };
///     Card::Card() { pci_.add_memory_bar(0, 0x1000, registers_); pci_.add_msi(1); }
///     reset():      state_ = {}; pci_.reset(); ...
///     validate():   return pci_.validate(staged.pci);
///     after_load(): pci_.after_load(); update_irq();
///     update_irq(): pci_.set_interrupt(state_.status & state_.mask);
///     maker:        TRY(card->pci().attach(context));
///
/// The state must stay where it is. Describe first, then reset(), then attach().
class PciFunction {
  public:
    PciFunction(const PciIdentity& identity, PciFunctionState& state);
    ~PciFunction();
    PciFunction(const PciFunction&) = delete;
    PciFunction& operator=(const PciFunction&) = delete;

    /// BAR `index` (0 to 5) decodes `size` ports, a power of two from 4 to 256.
    void add_io_bar(unsigned index, uint32_t size, BusDevice& device);
    enum class BarKind { memory_32, memory_64, prefetchable_32, prefetchable_64 };
    /// BAR `index` (64-bit ones take the next one too) decodes registers: `size` is a power of two from 16 on.
    void add_memory_bar(unsigned index, uint64_t size, BusDevice& device, BarKind kind = BarKind::memory_32);
    /// The BAR shows memory, as fast for the guest as RAM: a frame buffer. The store's size is a power of two.
    void add_ram_bar(unsigned index, GuestMemory::Store store, BarKind kind = BarKind::prefetchable_32);
    /// The expansion ROM. The store's size is a power of two.
    void add_rom_bar(GuestMemory::Store store);
    /// `size` bytes (1, 2 or 4) at `offset`: what they are after reset, which bits a guest can write, and which the
    /// device changes with poke().
    void add_register(uint8_t offset, unsigned size, uint32_t reset_value, uint32_t writable = 0, uint32_t poked = 0);
    /// Bits of the byte at `offset` that writing 1 clears.
    void add_clearable(uint8_t offset, uint8_t bits);
    /// Takes `size` bytes (the two of ID and link included) from 40h on for a capability; returns where. Its registers
    /// are then described with add_register().
    uint8_t add_capability(uint8_t id, unsigned size);
    /// MSI with 1 to 32 vectors (a power of two), 64-bit addresses and a mask bit each.
    void add_msi(unsigned vectors);
    /// MSI-X with 1 to 128 vectors; table and pending bits have memory BAR `bar` for themselves.
    void add_msix(unsigned vectors, unsigned bar);
    /// `listener` is called after a guest has written bytes [first, last].
    void on_config_write(std::move_only_function<void(unsigned first, unsigned last)> listener) {
        listener_ = std::move(listener);
    }
    /// `listener` is called before a guest reads bytes [first, last], which it may still poke().
    void on_config_read(std::move_only_function<void(unsigned first, unsigned last)> listener) {
        read_listener_ = std::move(listener);
    }
    /// `decoder` adds what the function decodes besides its BARs, as its own registers say. When these change, call
    /// remap().
    void add_decoder(std::move_only_function<void(std::vector<PciWindow>&)> decoder) { decoder_ = std::move(decoder); }

    /// To the place that `reg` = <device function> says, on the board's PCI bus. With the file that `viv,rom` names
    /// in its expansion ROM, if the node has one.
    Result<void> attach(const DeviceContext& context);
    [[nodiscard]] PciAddress address() const { return address_; }

    void reset();
    [[nodiscard]] Result<void> validate(const PciFunctionState& staged) const;
    /// Puts windows and lines where the loaded state says. Sends nothing.
    void after_load();

    /// The device's interrupt condition: the level of INTx#, or with MSI on, a message of vector 0 when it rises.
    void set_interrupt(bool level);
    /// Whether messages are on instead of INTx#, and how many vectors the guest gave (0 when they are off).
    [[nodiscard]] unsigned vectors() const;
    /// Sends the message of a vector, or marks it pending while it is masked. Nothing while messages are off.
    void notify(unsigned vector);

    /// The memory for bus master accesses; nullptr while the guest has not enabled them.
    [[nodiscard]] GuestMemory* dma() const;

    /// `size` is 1, 2 or 4 (any is survived); beyond the 256 bytes there are ones.
    [[nodiscard]] uint32_t config_read(unsigned offset, unsigned size) const;
    void config_write(unsigned offset, unsigned size, uint32_t value);
    /// For the device itself: bits that add_register() says it changes.
    void poke(uint8_t offset, uint8_t value);
    [[nodiscard]] uint16_t command() const { return word(pci::COMMAND); }
    /// Where BAR `index` is, decoded or not.
    [[nodiscard]] uint64_t bar(unsigned index) const;
    /// Tells the bus that what is decoded may have changed.
    void remap();

  private:
    friend class PciBus;
    class MsixTable;
    struct Bar {
        uint64_t size = 0;  // 0: not there
        bool io = false;
        bool wide = false;
        BusDevice* device = nullptr;
        std::optional<GuestMemory::Store> store;
        GuestMemory::Kind kind = GuestMemory::Kind::ram;
    };
    static constexpr unsigned rom_index = 6;

    [[nodiscard]] uint16_t word(unsigned offset) const;
    [[nodiscard]] uint32_t dword(unsigned offset) const;
    static unsigned bar_offset(unsigned index);
    Bar& describe_bar(unsigned index, uint64_t size, uint32_t type_bits);
    void collect(std::vector<PciWindow>& windows);
    void become_multi_function();
    void tell_of_read(unsigned offset, unsigned size);
    [[nodiscard]] bool msi_enabled() const;
    [[nodiscard]] bool msix_enabled() const;
    void send_pending();
    void send(uint64_t address, uint32_t data);
    void update_intx();

    PciFunctionState& state_;
    std::array<uint8_t, pci::config_size> reset_{};
    std::array<uint8_t, pci::config_size> writable_{};
    std::array<uint8_t, pci::config_size> clearable_{};
    std::array<uint8_t, pci::config_size> poked_{};
    std::array<Bar, 7> bars_{};  // the last is the ROM's
    uint8_t next_capability_ = pci::FIRST_DEVICE_REGISTER;
    uint8_t last_link_ = pci::CAPABILITIES;
    uint8_t msi_ = 0;   // offset of the capability, 0 without
    uint8_t msix_ = 0;  // likewise
    unsigned msi_vectors_ = 0;
    unsigned msix_vectors_ = 0;
    std::unique_ptr<BusDevice> msix_table_;
    std::move_only_function<void(unsigned, unsigned)> listener_;
    std::move_only_function<void(unsigned, unsigned)> read_listener_;
    std::move_only_function<void(std::vector<PciWindow>&)> decoder_;
    PciBus* bus_ = nullptr;
    PciAddress address_;
    IrqLine intx_;
};

}  // namespace viv
