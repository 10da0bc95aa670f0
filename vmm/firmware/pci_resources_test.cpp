#include "vmm/firmware/pci_resources.hpp"

#include <algorithm>
#include <deque>
#include <optional>
#include <random>

#include "vmm/core/catch.hpp"

using namespace viv;
using namespace viv::firmware;
using namespace viv::pci;

namespace {

constexpr uint64_t gib = uint64_t{1} << 30;
constexpr PciApertures apertures{{0xC000, 0x10000}, {0xC0000000, 0xFEC00000}, {4 * gib, 512 * gib}};
constexpr std::array<uint8_t, 4> irqs{10, 5, 11, 9};

/// A made-up tree of functions and bridges that passes configuration accesses on as real bridges do.
struct Tree final : PciConfig {
    struct Function {
        const Function* parent = nullptr;  // a bridge
        uint8_t device = 0, number = 0;
        std::array<uint8_t, 256> bytes{}, writable{};
        std::vector<std::pair<unsigned, uint64_t>> bars;  // register, size

        void put(unsigned at, unsigned size, uint64_t value, uint64_t mask = 0) {
            for (unsigned i = 0; i < size; ++i) {
                bytes.at(at + i) = static_cast<uint8_t>(value >> (8 * i));
                writable.at(at + i) = static_cast<uint8_t>(mask >> (8 * i));
            }
        }
        [[nodiscard]] uint64_t get(unsigned at, unsigned size) const {
            uint64_t value = 0;
            for (unsigned i = 0; i < size; ++i) value |= uint64_t{bytes.at(at + i)} << (8 * i);
            return value;
        }
        Function& bar(unsigned index, uint64_t size, uint32_t type = 0) {
            const unsigned at = BAR0 + 4 * index;
            put(at, type & BAR_64_BIT ? 8 : 4, type, ~(size - 1));
            if (type & BAR_IO) put(at + 2, 2, 0, 0);  // 16 bits are decoded
            bars.emplace_back(at, size);
            return *this;
        }
        Function& pin(uint8_t value) {
            put(INTERRUPT_PIN, 1, value);
            put(INTERRUPT_LINE, 1, 0, 0xFF);
            return *this;
        }
        [[nodiscard]] uint64_t base(unsigned index) const {
            const uint64_t low = get(BAR0 + 4 * index, 4);
            if (low & BAR_IO) return low & ~uint64_t{3};
            return (low & BAR_64_BIT ? get(BAR0 + 4 * index, 8) : low) & ~uint64_t{15};
        }
        [[nodiscard]] uint64_t command() const { return get(COMMAND, 2); }
    };

    Function& add(uint8_t device, uint8_t number = 0, const Function* parent = nullptr) {
        Function& function = functions.emplace_back();
        function.parent = parent;
        function.device = device;
        function.number = number;
        function.put(VENDOR_ID, 4, 0x56781234);
        function.put(COMMAND, 2, 0, 0x7);
        return function;
    }
    enum class Windows { narrow, wide };
    Function& add_bridge(uint8_t device, Windows windows, const Function* parent = nullptr) {
        Function& bridge = add(device, 0, parent);
        bridge.put(HEADER_TYPE, 1, BRIDGE_HEADER);
        bridge.put(PRIMARY_BUS, 3, 0, 0xFFFFFF);
        bridge.put(IO_BASE, 2, 0, 0xF0F0);
        bridge.put(MEMORY_BASE, 4, 0, 0xFFF0FFF0);
        const bool wide = windows == Windows::wide;
        bridge.put(PREFETCHABLE_BASE, 4, wide ? 0x00010001 : 0, 0xFFF0FFF0);
        if (wide) bridge.put(PREFETCHABLE_BASE_HIGH, 8, 0, ~uint64_t{0});
        return bridge;
    }

    [[nodiscard]] static unsigned bus_of(const Function& function) {
        return function.parent ? static_cast<unsigned>(function.parent->get(SECONDARY_BUS, 1)) : 0;
    }
    /// Whether a cycle for this bus gets to where the function is.
    [[nodiscard]] static bool reaches(const Function* bridge, unsigned bus) {
        for (; bridge; bridge = bridge->parent) {
            if (bus < bridge->get(SECONDARY_BUS, 1) || bus > bridge->get(SUBORDINATE_BUS, 1)) return false;
        }
        return true;
    }
    Function* find(PciAddress at) {
        for (Function& f : functions) {
            if (f.device == at.device && f.number == at.function && bus_of(f) == at.bus && reaches(f.parent, at.bus))
                return &f;
        }
        return nullptr;
    }
    uint32_t read(PciAddress at, unsigned offset, unsigned size) override {
        const Function* f = find(at);
        return f ? static_cast<uint32_t>(f->get(offset, size)) : ~uint32_t{0} >> (32 - 8 * size);
    }
    void write(PciAddress at, unsigned offset, unsigned size, uint32_t value) override {
        Function* f = find(at);
        for (unsigned i = 0; f && i < size; ++i) {
            const uint8_t mask = f->writable.at(offset + i);
            auto& byte = f->bytes.at(offset + i);
            byte = static_cast<uint8_t>((byte & ~mask) | (value >> (8 * i) & mask));
        }
    }

    struct Range {
        uint64_t base = 0, end = 0;
        [[nodiscard]] bool contains(const Range& other) const { return base <= other.base && other.end <= end; }
    };
    static Range window(const Function& bridge, bool ports, bool prefetchable) {
        if (ports) return {bridge.get(IO_BASE, 1) << 8 & 0xF000, (bridge.get(IO_LIMIT, 1) << 8 | 0xFFF) + 1};
        if (!prefetchable) return {bridge.get(MEMORY_BASE, 2) << 16, (bridge.get(MEMORY_LIMIT, 2) << 16 | 0xFFFFF) + 1};
        return {bridge.get(PREFETCHABLE_BASE_HIGH, 4) << 32 | (bridge.get(PREFETCHABLE_BASE, 2) & 0xFFF0) << 16,
                (bridge.get(PREFETCHABLE_LIMIT_HIGH, 4) << 32 | (bridge.get(PREFETCHABLE_LIMIT, 2) & 0xFFF0) << 16 |
                 0xFFFFF) +
                    1};
    }

    /// What is decoded lies in the apertures and in a window of every bridge above, aligned, and nothing overlaps.
    void check_map() const {
        std::vector<Range> ports, memory;
        for (const Function& f : functions) {
            for (const auto& [at, size] : f.bars) {
                const bool is_ports = f.get(at, 1) & BAR_IO;
                if (!(f.command() & (is_ports ? IO_SPACE : MEMORY_SPACE))) continue;
                const uint64_t base = f.base((at - BAR0) / 4);
                const Range range{base, base + size};
                CHECK(base % size == 0);
                auto& others = is_ports ? ports : memory;
                for (const Range& other : others) CHECK((range.end <= other.base || other.end <= range.base));
                others.push_back(range);
                const auto inside = [&](const PciAperture& a) { return Range{a.base, a.end}.contains(range); };
                CHECK((is_ports ? inside(apertures.ports) : inside(apertures.memory) || inside(apertures.high_memory)));
                for (const Function* bridge = f.parent; bridge; bridge = bridge->parent) {
                    CHECK((window(*bridge, is_ports, false).contains(range) ||
                           (!is_ports && window(*bridge, false, true).contains(range))));
                    CHECK((bridge->command() & (IO_SPACE | MEMORY_SPACE)) == (IO_SPACE | MEMORY_SPACE));
                }
            }
        }
    }

    PciPlan set_up() {
        PciPlan plan = set_up_pci(*this, apertures, irqs);
        check_map();
        return plan;
    }
    std::deque<Function> functions;
};

}  // namespace

TEST_CASE("An empty bus needs nothing") {
    Tree tree;
    const PciPlan plan = tree.set_up();
    CHECK(plan.functions.empty());
    CHECK(plan.last_bus == 0);
    CHECK(plan.unplaced == 0);
}

TEST_CASE("Functions on the root bus get addresses, are enabled, and know their interrupt") {
    Tree tree;
    auto& vga = tree.add(2).bar(0, 16 << 20, BAR_PREFETCHABLE).bar(2, 4096).pin(1);
    auto& disk = tree.add(1, 1).bar(4, 16, BAR_IO);
    auto& bridge = tree.add(1);
    bridge.put(HEADER_TYPE, 1, MULTI_FUNCTION);
    auto& card = tree.add(7).bar(0, 256, BAR_IO).bar(1, 16).bar(5, 1 << 29).pin(3);
    vga.put(ROM_BAR, 4, 0, 0xFFFF0001);
    const PciPlan plan = tree.set_up();
    CHECK(plan.unplaced == 0);
    CHECK_FALSE(plan.uses_high);
    REQUIRE(plan.functions.size() == 4);
    CHECK(plan.functions[1].at == PciAddress{0, 1, 1});
    CHECK(plan.functions[1].interrupt_pin == 0);
    CHECK(plan.functions[2].pirq == 1);  // device 2, INTA#
    CHECK(plan.functions[3].pirq == 0);  // device 7, INTC#
    CHECK(vga.get(INTERRUPT_LINE, 1) == 5);
    CHECK(card.get(INTERRUPT_LINE, 1) == 10);
    CHECK(vga.command() == MEMORY_SPACE);
    CHECK(disk.command() == IO_SPACE);
    CHECK(card.command() == (IO_SPACE | MEMORY_SPACE));
    CHECK(vga.base(0) == 0xE0000000);  // behind the half GiB of the card
    CHECK((vga.get(ROM_BAR, 4) & 1) == 0);
    CHECK(vga.get(ROM_BAR, 4) >= apertures.memory.base);
}

TEST_CASE("A VGA decodes its fixed ports, though no BAR has any") {
    Tree tree;
    auto& display = tree.add(2).bar(0, 0x1000000, BAR_PREFETCHABLE);
    display.put(CLASS_CODE, 3, 0x030000);
    auto& other = tree.add(3).bar(0, 0x1000);
    set_up_pci(tree, apertures, irqs);
    CHECK(display.command() == (IO_SPACE | MEMORY_SPACE));
    CHECK(other.command() == MEMORY_SPACE);
}

TEST_CASE("Functions 1 to 7 are looked for only where the header says so") {
    Tree tree;
    tree.add(3);
    tree.add(3, 4);
    CHECK(tree.set_up().functions.size() == 1);
    tree.functions[0].put(HEADER_TYPE, 1, MULTI_FUNCTION);
    CHECK(tree.set_up().functions.size() == 2);
}

TEST_CASE("Buses behind bridges are numbered in depth first, and windows hold what is behind") {
    Tree tree;
    auto& left = tree.add_bridge(3, Tree::Windows::narrow);
    auto& right = tree.add_bridge(9, Tree::Windows::narrow);
    auto& inner = tree.add_bridge(4, Tree::Windows::narrow, &left);
    auto& deep = tree.add(5, 0, &inner).bar(0, 1 << 20).bar(1, 64, BAR_IO).pin(2);
    auto& shallow = tree.add(1, 0, &left).bar(0, 1 << 16).bar(2, 1 << 21, BAR_PREFETCHABLE | BAR_64_BIT).pin(1);
    auto& other = tree.add(31, 0, &right).bar(0, 256, BAR_IO).bar(1, 4096).pin(4);
    const PciPlan plan = tree.set_up();
    CHECK(plan.last_bus == 3);
    CHECK(left.get(PRIMARY_BUS, 3) == 0x020100);
    CHECK(inner.get(PRIMARY_BUS, 3) == 0x020201);
    CHECK(right.get(PRIMARY_BUS, 3) == 0x030300);
    CHECK(plan.unplaced == 0);
    for (const auto* f : {&deep, &shallow, &other}) CHECK((f->command() & MEMORY_SPACE) != 0);
    // INTB# of device 5 is INTC# in front of the inner bridge (device 4), INTC# in front of the left one (device 3).
    CHECK(plan.functions.back().at == PciAddress{3, 31, 0});
    CHECK(deep.get(INTERRUPT_LINE, 1) == irqs[(2 + 3 - 1) % 4]);
    CHECK(shallow.get(INTERRUPT_LINE, 1) == irqs[(1 + 3 - 1) % 4]);
    CHECK(other.get(INTERRUPT_LINE, 1) == irqs[(2 + 9 - 1) % 4]);
}

TEST_CASE("A bridge with nothing behind it passes nothing on") {
    Tree tree;
    auto& bridge = tree.add_bridge(3, Tree::Windows::wide);
    tree.set_up();
    for (const bool prefetchable : {false, true}) {
        const auto window = Tree::window(bridge, false, prefetchable);
        CHECK(window.base >= window.end);
    }
    const auto ports = Tree::window(bridge, true, false);
    CHECK(ports.base >= ports.end);
}

TEST_CASE("What does not fit below 4 GiB goes above when it can") {
    Tree tree;
    auto& huge = tree.add(1).bar(0, 8 * gib, BAR_64_BIT | BAR_PREFETCHABLE);
    auto& large = tree.add(2).bar(0, gib / 2, BAR_64_BIT).bar(2, gib / 4);
    auto& small = tree.add(3).bar(0, gib / 2, BAR_64_BIT).bar(2, 4096, BAR_64_BIT);
    const PciPlan plan = tree.set_up();
    CHECK(plan.unplaced == 0);
    CHECK(plan.uses_high);
    CHECK(huge.base(0) >= 4 * gib);
    CHECK((large.base(0) >= 4 * gib) != (small.base(0) >= 4 * gib));
    CHECK(large.base(2) < 4 * gib);
    CHECK(small.base(2) < 4 * gib);
}

TEST_CASE("A prefetchable window goes above 4 GiB as a whole, and only if bridge and BARs can") {
    Tree tree;
    const auto build = [&tree](Tree::Windows windows) -> Tree::Function& {
        auto& bridge = tree.add_bridge(2, windows);
        return tree.add(0, 0, &bridge).bar(0, 2 * gib, BAR_64_BIT | BAR_PREFETCHABLE).bar(2, 4096);
    };
    SECTION("wide") {
        auto& card = build(Tree::Windows::wide);
        CHECK(tree.set_up().unplaced == 0);
        CHECK(card.base(0) >= 4 * gib);
        CHECK(card.base(2) < 4 * gib);
        CHECK(card.command() == MEMORY_SPACE);
    }
    SECTION("narrow") {
        auto& card = build(Tree::Windows::narrow);
        CHECK(tree.set_up().unplaced == 2);
        CHECK(card.command() == 0);
    }
}

TEST_CASE("BARs that find no place leave their function closed, and the others work") {
    Tree tree;
    auto& greedy = tree.add(1).bar(0, gib).bar(1, 32, BAR_IO);
    auto& modest = tree.add(2).bar(0, 4096);
    std::vector<Tree::Function*> crowd;
    for (uint8_t i = 3; i < 32; ++i)
        crowd.push_back(&tree.add(i).bar(0, 256, BAR_IO).bar(1, 256, BAR_IO).bar(2, 256, BAR_IO));
    const PciPlan plan = tree.set_up();
    CHECK(greedy.command() == IO_SPACE);
    CHECK(modest.command() == MEMORY_SPACE);
    CHECK(plan.unplaced == 1 + (29 * 3 - 63));
    CHECK(std::ranges::count_if(crowd, [](const auto* f) { return f->command() == IO_SPACE; }) >= 20);
}

TEST_CASE("Any tree is set up: nothing overlaps, everything is in its windows") {
    std::mt19937 random(1);
    for (unsigned round = 0; round < 60; ++round) {
        Tree tree;
        std::vector<const Tree::Function*> bridges{nullptr};
        for (unsigned i = 0; i < 12; ++i) {
            const auto* parent = bridges[random() % bridges.size()];
            const auto device = static_cast<uint8_t>(i);
            if (random() % 3 == 0) {
                bridges.push_back(
                    &tree.add_bridge(device, random() % 2 ? Tree::Windows::wide : Tree::Windows::narrow, parent));
                continue;
            }
            auto& card = tree.add(device, 0, parent).pin(static_cast<uint8_t>(random() % 5));
            for (unsigned bar = 0; bar < 5; bar += 2) {
                switch (random() % 4) {
                    case 0: card.bar(bar, uint64_t{4} << random() % 7, BAR_IO); break;
                    case 1: card.bar(bar, uint64_t{16} << random() % 24); break;
                    case 2: card.bar(bar, uint64_t{16} << random() % 26, BAR_PREFETCHABLE); break;
                    default: card.bar(bar, uint64_t{16} << random() % 32, BAR_PREFETCHABLE | BAR_64_BIT); break;
                }
            }
        }
        const PciPlan plan = tree.set_up();
        CHECK(plan.functions.size() == 12);
        CHECK(plan.last_bus == bridges.size() - 1);
    }
}
