#include "vmm/engine/cpu_model.hpp"

#include <algorithm>

#include "vmm/core/catch.hpp"

using namespace viv;

namespace {
const CpuidLeaf* find(const std::vector<CpuidLeaf>& table, uint32_t leaf, uint32_t subleaf = 0) {
    const auto at =
        std::ranges::find_if(table, [=](const CpuidLeaf& l) { return l.leaf == leaf && l.subleaf == subleaf; });
    return at == table.end() ? nullptr : &*at;
}
std::vector<CpuidLeaf> cpuid_of(std::string_view text, uint32_t number = 0, uint32_t cpus = 1) {
    const auto selection = parse_cpu(text);
    REQUIRE(selection);
    return make_cpuid(*selection, {}, number, cpus);
}
}  // namespace

TEST_CASE("cpu model: every feature bit is used once") {
    const auto bits = cpu_features();
    for (size_t i = 0; i < bits.size(); ++i) {
        for (size_t j = 0; j < i; ++j) {
            INFO(bits[i].name << " and " << bits[j].name);
            CHECK(bits[i].name != bits[j].name);
            const bool same_place = bits[i].leaf == bits[j].leaf && bits[i].subleaf == bits[j].subleaf &&
                                    bits[i].where == bits[j].where && bits[i].bit == bits[j].bit;
            CHECK_FALSE(same_place);
        }
    }
}

TEST_CASE("cpu model: a table shows the features of its model and no others") {
    for (const CpuModel& model : cpu_models()) {
        INFO(model.name);
        const auto shown = features_of(cpuid_of(model.name));
        CpuFeatureSet wanted = model.features;
        wanted.set(CpuFeature::ht, false);  // one CPU
        CHECK((wanted - shown).names() == "");
        CHECK((shown - wanted).names() == "");
    }
}

TEST_CASE("cpu model: a Pentium is what Intel documents") {
    const auto table = cpuid_of("pentium");
    REQUIRE(table.size() == 2);
    CHECK(table[0] == CpuidLeaf{0, 0, false, 1, 0x756E6547, 0x6C65746E, 0x49656E69});
    CHECK(table[1].eax == 0x543);
    CHECK(table[1].edx == 0x8003BF);
    CHECK(table[1].ecx == 0);
}

TEST_CASE("cpu model: extended family, model and brand string are split as documented") {
    const auto table = cpuid_of("x86-64-v3");
    CHECK(find(table, 1)->eax == 0x306C3);
    const CpuidLeaf* brand = find(table, 0x80000002);
    REQUIRE(brand);
    CHECK(brand->eax == 0x61766956);  // "Viva"
    CHECK(find(table, 0x80000004)->edx == 0);
}

TEST_CASE("cpu model: features are added and taken away by name") {
    CHECK(features_of(cpuid_of("core2,+popcnt,-lm")).has(CpuFeature::popcnt));
    CHECK_FALSE(features_of(cpuid_of("core2,+popcnt,-lm")).has(CpuFeature::lm));
    CHECK(parse_cpu("core2,+popcnt")->required == CpuFeatureSet{CpuFeature::popcnt});
}

TEST_CASE("cpu model: an unknown word is named, with what is near") {
    CHECK(parse_cpu("pentium4").error().message.find("'pentium4'; there are 486, pentium,") != std::string::npos);
    CHECK(parse_cpu("max,+popcmt").error().message == "unknown CPU feature 'popcmt'; did you mean popcnt?");
    CHECK(parse_cpu("max,+avx51").error().message.find("avx512f") != std::string::npos);
    CHECK(parse_cpu("max,sse").error().message == "CPU 'max,sse': 'sse' is not +feature or -feature");
    CHECK(parse_cpu("max,+").error().kind == ErrorKind::usage);
    CHECK(parse_cpu("pentium,+nx").error().message == "CPU model 'pentium' is too old to show the feature 'nx'");
    CHECK_FALSE(parse_cpu("max,"));
    CHECK_FALSE(parse_cpu(""));
}

TEST_CASE("cpu model: what the engine lacks is not shown") {
    const auto selection = parse_cpu("max");
    REQUIRE(selection);
    const auto table = make_cpuid(*selection, {.supported = CpuFeatureSet{CpuFeature::fpu, CpuFeature::tsc}}, 0, 1);
    CHECK(features_of(table) == CpuFeatureSet{CpuFeature::fpu, CpuFeature::tsc});
    CHECK(find(table, 0xD)->eax == 0);
}

TEST_CASE("cpu model: an engine that is told what a table shows makes the same table") {
    const CpuFeatureSet lacking = CpuFeatureSet::all() - CpuFeatureSet{CpuFeature::pcid, CpuFeature::avx512f};
    CpuidBase amd{.supported = lacking, .identity = {"AuthenticAMD", 25, 1, 1, "AMD EPYC 7R13"}};
    amd.pkru_offset = 0x340;
    amd.physical_address_bits = 48;
    amd.linear_address_bits = 57;
    CpuidBase intel;
    for (const CpuModel& model : cpu_models()) {
        const auto selection = parse_cpu(model.name);
        for (CpuidBase base : {amd, intel}) {
            for (const uint64_t hertz : {uint64_t{0}, uint64_t{2'300'000'000}, uint64_t{2'299'998'000}}) {
                INFO(model.name << " at " << hertz);
                base.shown_hertz = hertz;
                const auto table = make_cpuid(*selection, base, 2, 3);
                CHECK(std::ranges::is_sorted(table, {}, &CpuidLeaf::leaf));
                CHECK(make_cpuid(*selection, base_of(table), 2, 3) == table);
                CHECK((find(table, 0x15) != nullptr) == (hertz != 0 && model.host_identity));
            }
        }
    }
}

TEST_CASE("cpu model: AMD's processors from Zen 2 on clear the base behind a null selector") {
    CHECK(vendor_rules({.vendor = "AuthenticAMD", .family = 15, .model = 37}).null_selector_keeps_base);
    CHECK(vendor_rules({.vendor = "AuthenticAMD", .family = 0x17, .model = 1}).null_selector_keeps_base);
    CHECK_FALSE(vendor_rules({.vendor = "AuthenticAMD", .family = 0x17, .model = 0x31}).null_selector_keeps_base);
    CHECK_FALSE(vendor_rules({.vendor = "AuthenticAMD", .family = 0x19, .model = 1}).null_selector_keeps_base);
    CHECK_FALSE(vendor_rules({.vendor = "Another", .family = 6}).null_selector_keeps_base);
}

TEST_CASE("cpu model: 1 to 16 CPUs are the cores of one package") {
    for (uint32_t cpus = 1; cpus <= 16; ++cpus) {
        for (uint32_t number = 0; number < cpus; ++number) {
            const auto table = cpuid_of("x86-64-v3", number, cpus);
            const CpuidLeaf* basic = find(table, 1);
            CHECK(basic->ebx >> 24 == number);
            CHECK(((basic->edx >> 28 & 1) != 0) == (cpus > 1));
            if (cpus > 1) CHECK((basic->ebx >> 16 & 0xFF) >= cpus);
            CHECK((find(table, 4, 0)->eax >> 26) + 1 >= cpus);
            CHECK((find(table, 4, 0)->eax >> 14 & 0xFFF) == 0);  // L1 is a core's own
            CHECK((find(table, 4, 3)->eax >> 14 & 0xFFF) == (find(table, 4, 0)->eax >> 26));
            CHECK(find(table, 0xB, 1)->ebx == cpus);
            CHECK(find(table, 0xB, 0)->edx == number);
            CHECK(uint32_t{1} << find(table, 0xB, 1)->eax >= cpus);
        }
    }
}

TEST_CASE("cpu model: cache sizes come out of leaf 4 as they went in") {
    const auto table = cpuid_of("core2");
    const CpuidLeaf* l2 = find(table, 4, 2);
    REQUIRE(l2);
    const uint32_t ways = (l2->ebx >> 22) + 1;
    const uint32_t line = (l2->ebx & 0xFFF) + 1;
    CHECK(ways * line * (l2->ecx + 1) == 4096 * 1024);
    CHECK(find(table, 4, 3)->eax == 0);
}

TEST_CASE("cpu model: the XSAVE area has the components of the features") {
    CHECK(find(cpuid_of("x86-64-v3"), 0xD)->eax == 7);
    CHECK(find(cpuid_of("x86-64-v3"), 0xD)->ecx == 832);
    CHECK(find(cpuid_of("x86-64-v3,-avx"), 0xD)->eax == 3);
    CHECK(find(cpuid_of("x86-64-v3,-avx"), 0xD, 2) == nullptr);
}

TEST_CASE("cpu model: a hypervisor is seen only with kvmclock") {
    CHECK(find(cpuid_of("max"), 0x40000000) == nullptr);
    CHECK(find(cpuid_of("max,+kvmclock"), 0x40000000)->ebx == 0x4B4D564B);
    CHECK(find(cpuid_of("max,+kvmclock"), 0x40000001)->eax == 0x1000008);
}
