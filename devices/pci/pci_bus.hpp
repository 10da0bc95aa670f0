#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "devices/pci/pci_function.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/irq_line.hpp"

namespace viv {

/// PCI bus 0: the functions on it, their configuration space, what they decode, and their interrupt wires. Service,
/// provided by the host bridge.
///
/// What functions decode is put on the buses anew after each change, as if all of it came at once: of windows that
/// overlap, fixed devices and RAM win, then the function with the lower address, then the lower BAR. The others are not
/// decoded at all until the conflict is over. So the map depends on registers alone, not on the order of writes.
class PciBus {
  public:
    static constexpr unsigned pirq_count = 4;
    /// Not decoded for functions: from here to 4 GiB are the IOAPIC, the local APICs and the ROM (82441FX, 3.4.2).
    static constexpr uint64_t chipset_base = 0xFEC00000;
    /// No function decodes addresses from here on.
    static constexpr uint64_t address_limit = uint64_t{1} << 39;

    PciBus(Bus& ports, Bus& memory_bus, GuestMemory& memory)
        : ports_(ports), memory_bus_(memory_bus), memory_(memory) {}

    /// Errors of kind usage: the place is taken. `name` is the node's path.
    Result<void> attach(PciAddress address, PciFunction& function, std::string name);
    void detach(PciFunction& function);
    /// nullptr where there is none.
    [[nodiscard]] PciFunction* find(PciAddress address) const;
    [[nodiscard]] std::vector<PciAddress> addresses() const;

    /// Ones where there is no function; writes there are dropped. Both are counted.
    uint32_t config_read(PciAddress address, unsigned offset, unsigned size);
    void config_write(PciAddress address, unsigned offset, unsigned size, uint32_t value);

    /// PIRQA# to PIRQD#.
    [[nodiscard]] IrqPin& pirq(unsigned index) { return pirqs_.at(index); }
    /// Which of them INTx# of a device reaches; `pin` is 1 to 4.
    static unsigned pirq_of(PciAddress address, unsigned pin) { return (pin - 1u + address.device - 1u) % pirq_count; }

    /// Where messages go from now on; without a sink they are lost.
    void connect(MsiSink& sink) { sink_ = &sink; }
    void send(uint64_t address, uint32_t data) {
        if (sink_) sink_->send(address, data);
    }

    [[nodiscard]] GuestMemory& memory() { return memory_; }
    void remap();

    struct Counters {
        uint64_t master_aborts = 0;  // configuration accesses to nobody
        uint64_t conflicts = 0;      // windows that were not decoded because of another
    };
    [[nodiscard]] const Counters& counters() const { return counters_; }
    /// What is decoded now.
    [[nodiscard]] const std::vector<PciWindow>& windows() const { return mapped_; }

  private:
    struct Slot {
        PciFunction* function = nullptr;
        std::string name;
    };
    bool map(const PciWindow& window);
    void unmap(const PciWindow& window);

    Bus& ports_;
    Bus& memory_bus_;
    GuestMemory& memory_;
    std::map<PciAddress, Slot> functions_;
    std::vector<PciWindow> mapped_;
    std::array<IrqPin, pirq_count> pirqs_;
    MsiSink* sink_ = nullptr;
    Counters counters_;
};

}  // namespace viv
