#include "vmm/firmware/pci_resources.hpp"

#include <algorithm>
#include <bit>
#include <memory>
#include <optional>

#include "devices/pci/pci_bus.hpp"

namespace viv::firmware {
namespace {

using namespace pci;

enum class Kind : uint8_t { ports, memory, prefetchable };

constexpr uint64_t ports_window = 0x1000;     // of a bridge: size and alignment
constexpr uint64_t memory_window = 0x100000;  // likewise
constexpr unsigned most_buses = 256;

struct Bus;

/// A BAR, or a bridge's window for all that is behind it.
struct Item {
    PciAddress at;
    unsigned offset = 0;  // the BAR's register; 0 for a window
    Kind kind = Kind::memory;
    uint64_t size = 0;
    uint64_t alignment = 0;
    bool wide = false;  // may lie above 4 GiB
    Bus* behind = nullptr;
    std::optional<uint64_t> base = {};
};

struct Bridge {
    PciAddress at;
    bool wide = false;  // its prefetchable window has 64-bit registers
    std::unique_ptr<Bus> bus;
};

struct Bus {
    uint8_t number = 0;
    std::vector<Item> items;
    std::vector<Bridge> bridges;
};

constexpr uint64_t align_up(uint64_t value, uint64_t alignment) {
    return (value + alignment - 1) / alignment * alignment;
}

class Setup {
  public:
    Setup(PciConfig& config, const PciApertures& apertures, const std::array<uint8_t, 4>& irqs)
        : config_(config), apertures_(apertures), irqs_(irqs) {}

    PciPlan run() {
        scan(root_, {});
        plan_.last_bus = static_cast<uint8_t>(next_bus_ - 1);
        for (const Kind kind : {Kind::ports, Kind::memory}) collect_windows(root_, kind);
        place_root();
        write(root_);
        std::ranges::sort(plan_.functions, {}, &PciPlan::Function::at);
        return std::move(plan_);
    }

  private:
    /// The way of an interrupt from a bus to the root: the slots of the bridges above it, innermost first.
    using Slots = std::vector<uint8_t>;

    void scan(Bus& bus, const Slots& above) {
        for (uint8_t device = 0; device < 32; ++device) {
            const PciAddress first{bus.number, device, 0};
            if (!exists(first)) continue;
            const bool several = config_.read(first, HEADER_TYPE, 1) & MULTI_FUNCTION;
            for (uint8_t function = 0; function < (several ? 8 : 1); ++function) {
                const PciAddress at{bus.number, device, function};
                if (exists(at)) scan_function(bus, at, above);
            }
        }
    }

    bool exists(PciAddress at) {
        const uint32_t vendor = config_.read(at, VENDOR_ID, 2) & 0xFFFF;
        return vendor != 0xFFFF && vendor != 0;
    }

    void scan_function(Bus& bus, PciAddress at, const Slots& above) {
        const bool is_bridge = (config_.read(at, HEADER_TYPE, 1) & 0x7F) == BRIDGE_HEADER;
        set_interrupt_line(at, above);
        const uint32_t command = config_.read(at, COMMAND, 2);
        config_.write(at, COMMAND, 2, command & ~uint32_t{IO_SPACE | MEMORY_SPACE});
        measure_bars(bus, at, is_bridge ? 2 : 6, is_bridge ? BRIDGE_ROM_BAR : ROM_BAR);
        config_.write(at, COMMAND, 2, command);
        if (is_bridge && next_bus_ < most_buses) scan_bridge(bus, at, above);
    }

    void scan_bridge(Bus& bus, PciAddress at, const Slots& above) {
        Bridge bridge{at, (config_.read(at, PREFETCHABLE_BASE, 2) & 0xF) == 1, std::make_unique<Bus>()};
        bridge.bus->number = static_cast<uint8_t>(next_bus_++);
        config_.write(at, PRIMARY_BUS, 1, bus.number);
        config_.write(at, SECONDARY_BUS, 1, bridge.bus->number);
        config_.write(at, SUBORDINATE_BUS, 1, 0xFF);
        Slots slots{at.device};
        slots.insert(slots.end(), above.begin(), above.end());
        scan(*bridge.bus, slots);
        config_.write(at, SUBORDINATE_BUS, 1, next_bus_ - 1);
        bus.bridges.push_back(std::move(bridge));
    }

    /// Each bridge turns the pins by the slot of the device in front (Bridge Architecture, 9.1).
    void set_interrupt_line(PciAddress at, const Slots& above) {
        PciPlan::Function& function = plan_.functions.emplace_back(PciPlan::Function{at});
        function.interrupt_pin = static_cast<uint8_t>(config_.read(at, INTERRUPT_PIN, 1));
        if (function.interrupt_pin < 1 || function.interrupt_pin > 4) {
            function.interrupt_pin = 0;
            return;
        }
        unsigned pin = function.interrupt_pin;
        PciAddress slot = at;
        for (const uint8_t device : above) {
            pin = (pin - 1 + slot.device) % 4 + 1;
            slot.device = device;
        }
        function.pirq = static_cast<uint8_t>(PciBus::pirq_of(slot, pin));
        config_.write(at, INTERRUPT_LINE, 1, irqs_[function.pirq]);
    }

    void measure_bars(Bus& bus, PciAddress at, unsigned bars, unsigned rom) {
        for (unsigned i = 0; i < bars; ++i) {
            const unsigned offset = BAR0 + 4 * i;
            const uint32_t low = measure(at, offset, 0xFFFFFFFF);
            Item item{at, offset};
            uint64_t mask = 0;
            if (low & BAR_IO) {
                item.kind = Kind::ports;
                mask = (low & ~uint32_t{3}) | ~uint64_t{0xFFFF};
            } else {
                item.kind = low & BAR_PREFETCHABLE ? Kind::prefetchable : Kind::memory;
                item.wide = (low & 6) == BAR_64_BIT && i + 1 < bars;
                mask = (low & ~uint32_t{15}) | ~uint64_t{0xFFFFFFFF};
                if (item.wide) mask = (mask & 0xFFFFFFFF) | uint64_t{measure(at, offset + 4, 0xFFFFFFFF)} << 32;
            }
            const bool is_empty = (low & (low & BAR_IO ? 0xFFFCu : 0xFFFFFFF0u)) == 0 && !(item.wide && mask >> 32);
            if (item.wide) ++i;
            if (is_empty) continue;
            add(bus, item, ~mask + 1);
        }
        const uint32_t mask = measure(at, rom, 0xFFFFF800) & 0xFFFFF800;
        if (mask) add(bus, Item{at, rom}, ~(mask | ~uint64_t{0xFFFFFFFF}) + 1);
    }

    uint32_t measure(PciAddress at, unsigned offset, uint32_t ones) {
        config_.write(at, offset, 4, ones);
        const uint32_t value = config_.read(at, offset, 4);
        config_.write(at, offset, 4, 0);
        return value;
    }

    void add(Bus& bus, Item item, uint64_t size) {
        item.size = item.alignment = std::bit_ceil(std::max<uint64_t>(size, 1));
        bus.items.push_back(item);
    }

    /// Adds a window to `bus` for each bridge and what is behind it, innermost first. Ports are on their own; memory
    /// has two windows, and what is prefetchable but not 64-bit can use either, so it goes with the first.
    void collect_windows(Bus& bus, Kind kind) {
        for (Bridge& bridge : bus.bridges) {
            collect_windows(*bridge.bus, kind);
            add_window(bus, bridge, kind);
            if (kind == Kind::memory) add_window(bus, bridge, Kind::prefetchable);
        }
    }

    static bool in_window(const Item& item, const Bridge& bridge, Kind kind) {
        if (item.kind == Kind::ports || kind == Kind::ports) return item.kind == kind;
        const bool prefetchable = item.kind == Kind::prefetchable && item.wide && bridge.wide;
        return prefetchable == (kind == Kind::prefetchable);
    }

    static void add_window(Bus& bus, Bridge& bridge, Kind kind) {
        std::vector<Item*> inside;
        for (Item& item : bridge.bus->items) {
            if (in_window(item, bridge, kind)) inside.push_back(&item);
        }
        if (inside.empty()) return;
        const uint64_t unit = kind == Kind::ports ? ports_window : memory_window;
        Item window{bridge.at, 0, kind};
        window.behind = bridge.bus.get();
        window.wide = kind == Kind::prefetchable;
        window.alignment = unit;
        for (const Item* item : inside) window.alignment = std::max(window.alignment, item->alignment);
        window.size = align_up(lay_out(inside, 0), unit);
        bus.items.push_back(window);
    }

    /// Gives addresses from `from` on, largest alignment first; returns where the last one ends.
    static uint64_t lay_out(std::vector<Item*>& items, uint64_t from) {
        std::ranges::stable_sort(items, std::ranges::greater(), &Item::alignment);
        for (Item* item : items) {
            item->base = align_up(from, item->alignment);
            from = *item->base + item->size;
        }
        return from;
    }

    /// Takes the largest item out of `items` that `may` be taken.
    template <class May>
    static Item* take_largest(std::vector<Item*>& items, May may) {
        Item* largest = nullptr;
        for (Item* item : items) {
            if (may(*item) && (!largest || item->size > largest->size)) largest = item;
        }
        std::erase(items, largest);
        return largest;
    }

    /// Fits items into an aperture; what is too much goes to `rest`, first what may lie elsewhere.
    static void fit(std::vector<Item*>& items, const PciAperture& aperture, std::vector<Item*>& rest) {
        while (!items.empty() && lay_out(items, aperture.base) > aperture.end) {
            Item* out = take_largest(items, [](const Item& item) { return item.wide; });
            if (!out) out = take_largest(items, [](const Item&) { return true; });
            out->base.reset();
            rest.push_back(out);
        }
    }

    void place_root() {
        std::vector<Item*> ports, memory, high, lost;
        for (Item& item : root_.items) (item.kind == Kind::ports ? ports : memory).push_back(&item);
        fit(ports, apertures_.ports, lost);
        std::vector<Item*> rest;
        fit(memory, apertures_.memory, rest);
        for (Item* item : rest) (item->wide ? high : lost).push_back(item);
        fit(high, apertures_.high_memory, lost);
        plan_.uses_high = !high.empty();
    }

    /// Writes what was decided for a bus, and for all behind it.
    void write(Bus& bus) {
        for (Bridge& bridge : bus.bridges) {
            for (const Kind kind : {Kind::ports, Kind::memory, Kind::prefetchable}) write_window(bus, bridge, kind);
            write(*bridge.bus);
        }
        std::vector<PciAddress> functions;
        for (const Item& item : bus.items) {
            if (!item.offset) continue;
            if (item.base) {
                config_.write(item.at, item.offset, 4, static_cast<uint32_t>(*item.base));
                if (item.wide) config_.write(item.at, item.offset + 4, 4, static_cast<uint32_t>(*item.base >> 32));
            } else {
                ++plan_.unplaced;
            }
            if (functions.empty() || functions.back() != item.at) functions.push_back(item.at);
        }
        for (const PciAddress at : functions) enable(bus, at);
    }

    void enable(const Bus& bus, PciAddress at) {
        uint32_t command = config_.read(at, COMMAND, 2);
        for (const bool ports : {true, false}) {
            const auto of_space = [&](const Item& item) {
                return item.at == at && item.offset && (item.kind == Kind::ports) == ports;
            };
            const uint32_t bit = ports ? IO_SPACE : MEMORY_SPACE;
            if (std::ranges::none_of(bus.items, of_space)) continue;
            const bool complete =
                std::ranges::all_of(bus.items, [&](const Item& item) { return !of_space(item) || item.base; });
            command = complete ? command | bit : command & ~bit;
        }
        // A VGA has ports and memory at fixed places besides its BARs (PCI 3.0, appendix D: class 03h, subclass 00h).
        constexpr uint32_t vga = 0x0300;
        if (config_.read(at, CLASS_CODE + 1, 2) == vga) command |= IO_SPACE | MEMORY_SPACE;
        config_.write(at, COMMAND, 2, command);
    }

    /// Opens a bridge's window where it was placed, with the items behind it moved there, or closes it.
    void write_window(Bus& bus, Bridge& bridge, Kind kind) {
        const auto window = std::ranges::find_if(
            bus.items, [&](const Item& item) { return !item.offset && item.at == bridge.at && item.kind == kind; });
        const bool open = window != bus.items.end() && window->base;
        uint64_t first = kind == Kind::ports ? 0xF000 : 0xFFF00000, last = 0;
        std::vector<Item*> inside;
        for (Item& item : bridge.bus->items) {
            if (in_window(item, bridge, kind)) inside.push_back(&item);
        }
        if (open) {
            lay_out(inside, *window->base);
            first = *window->base;
            last = first + window->size - 1;
        } else {
            for (Item* item : inside) item->base.reset();
        }
        const auto put = [&](unsigned offset, unsigned size, uint64_t value) {
            config_.write(bridge.at, offset, size, static_cast<uint32_t>(value));
        };
        switch (kind) {
            case Kind::ports:
                put(IO_BASE, 1, first >> 8);
                put(IO_LIMIT, 1, last >> 8);
                put(IO_BASE_HIGH, 2, first >> 16);
                put(IO_LIMIT_HIGH, 2, last >> 16);
                break;
            case Kind::memory:
                put(MEMORY_BASE, 2, first >> 16);
                put(MEMORY_LIMIT, 2, last >> 16);
                break;
            case Kind::prefetchable:
                put(PREFETCHABLE_BASE, 2, first >> 16);
                put(PREFETCHABLE_LIMIT, 2, last >> 16);
                put(PREFETCHABLE_BASE_HIGH, 4, first >> 32);
                put(PREFETCHABLE_LIMIT_HIGH, 4, last >> 32);
                config_.write(bridge.at, COMMAND, 2,
                              config_.read(bridge.at, COMMAND, 2) | IO_SPACE | MEMORY_SPACE | BUS_MASTER);
                break;
        }
    }

    PciConfig& config_;
    const PciApertures& apertures_;
    const std::array<uint8_t, 4>& irqs_;
    PciPlan plan_;
    Bus root_;
    unsigned next_bus_ = 1;
};

}  // namespace

PciPlan set_up_pci(PciConfig& config, const PciApertures& apertures, const std::array<uint8_t, 4>& irqs) {
    return Setup(config, apertures, irqs).run();
}

}  // namespace viv::firmware
