#include "vmm/engine/kvm/memory_slots.hpp"

#include "vmm/engine/kvm/kvm_rig.hpp"

using namespace viv;
using namespace viv::kvm;
using viv::testing::Rig;

namespace {
const Slot* at(const std::vector<Slot>& slots, uint64_t address) {
    for (const Slot& slot : slots) {
        if (address >= slot.base && address - slot.base < slot.size) return &slot;
    }
    return nullptr;
}
}  // namespace

TEST_CASE("slots: the A20 gate changes one slot and nothing else") {
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low"));
    REQUIRE(memory.add(Gpa{0xE0000}, 0x20000, GuestMemory::Kind::rom, "bios"));
    REQUIRE(memory.add(Gpa{0x100000}, 0x700000, GuestMemory::Kind::ram, "high"));
    const auto on = plan_slots(memory.regions(), true);
    const auto off = plan_slots(memory.regions(), false);
    size_t different = 0;
    for (const Slot& slot : on) different += std::ranges::find(off, slot) == off.end();
    CHECK(different == 1);
    CHECK(on.size() == off.size());
    CHECK(at(on, 0x100000)->size == 0x10000);
    CHECK(at(on, 0x100000)->host == memory.find(Gpa{0x100000})->host);
    CHECK(at(off, 0x10FFF0)->host == memory.find(Gpa{0})->host);
    CHECK(at(on, 0x110000) != nullptr);
    CHECK(at(on, 0xE0000)->read_only);
    CHECK(at(off, 0xC0000) == nullptr);
}

TEST_CASE("slots: no plan has overlapping slots or holes that the regions do not have") {
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0x800000, GuestMemory::Kind::ram, "all"));
    for (const bool a20 : {true, false}) {
        const auto slots = plan_slots(memory.regions(), a20);
        for (uint64_t page = 0; page < 0x800000; page += 0x1000) {
            size_t holders = 0;
            for (const Slot& slot : slots) holders += page >= slot.base && page - slot.base < slot.size;
            CHECK(holders == 1);
        }
    }
}

TEST_CASE("slots: memory that comes and goes is followed") {
    VIV_KVM_RIG(rig);
    rig.host().memory_values[0xD0000] = 0x99;
    // mov al,[D0000h]; out F4h,al; jmp back
    rig.load(0x1000, {0xA0, 0x00, 0x00, 0x0D, 0x00, 0xE6, 0xF4, 0xEB, 0xF7});
    REQUIRE(rig.memory.remove(Gpa{0}));
    REQUIRE(rig.memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low"));
    rig.load(0x1000, {0xA0, 0x00, 0x00, 0x0D, 0x00, 0xE6, 0xF4, 0xEB, 0xF7});
    CHECK(rig.run(Rig::protected_mode()) == Stop::kicked);
    REQUIRE(rig.memory.add(Gpa{0xD0000}, 0x4000, GuestMemory::Kind::ram, "option rom"));
    rig.memory.store<uint8_t>(Gpa{0xD0000}, 0x77);
    CHECK(rig.run(Rig::protected_mode()) == Stop::kicked);
    REQUIRE(rig.memory.remove(Gpa{0xD0000}));
    CHECK(rig.run(Rig::protected_mode()) == Stop::kicked);
    REQUIRE(rig.host().port_writes.size() == 3);
    CHECK(rig.host().port_writes[0].value == 0x99);
    CHECK(rig.host().port_writes[1].value == 0x77);
    CHECK(rig.host().port_writes[2].value == 0x99);
}

TEST_CASE("slots: what the CPU writes becomes known on demand") {
    VIV_KVM_RIG(rig);
    // mov byte [5000h],1; mov byte [203000h],1; out F4h,al; jmp back
    rig.load(0x1000, {0xC6, 0x05, 0x00, 0x50, 0x00, 0x00, 0x01, 0xC6, 0x05, 0x00, 0x30, 0x20, 0x00, 0x01, 0xE6, 0xF4,
                      0xEB, 0xEE});
    rig.engine->sync_dirty(Gpa{0});
    const auto first = rig.memory.take_dirty(Gpa{0});
    CHECK(std::ranges::count(first, true) == Rig::ram / 4096);
    const uint32_t generation = rig.memory.write_generation(Gpa{0x5000});
    CHECK(rig.run(Rig::protected_mode()) == Stop::kicked);
    CHECK(rig.memory.write_generation(Gpa{0x5000}) == generation);
    rig.engine->sync_dirty(Gpa{0});
    CHECK(rig.memory.write_generation(Gpa{0x5000}) != generation);
    const auto second = rig.memory.take_dirty(Gpa{0});
    CHECK(second[0x5]);
    CHECK(second[0x203]);
    CHECK(std::ranges::count(second, true) == 2);
    rig.engine->sync_dirty(Gpa{0});
    CHECK(std::ranges::count(rig.memory.take_dirty(Gpa{0}), true) == 0);
}
