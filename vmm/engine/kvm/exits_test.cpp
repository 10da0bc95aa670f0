#include "vmm/engine/kvm/exits.hpp"

#include <memory>

#include "vmm/engine/kvm/kvm_rig.hpp"

using namespace viv;
using namespace viv::kvm;
using viv::testing::RecordingHost;
using Write = RecordingHost::Write;

namespace {
/// KVM's run page with room for I/O data behind it.
struct Page {
    kvm_run run{};
    std::array<uint8_t, 4096> data{};

    void io(uint8_t direction, uint8_t size, uint16_t port, uint32_t count) {
        run.exit_reason = KVM_EXIT_IO;
        run.io.direction = direction;
        run.io.size = size;
        run.io.port = port;
        run.io.count = count;
        run.io.data_offset = offsetof(Page, data);
    }
};
struct Fixture {
    std::unique_ptr<Page> page = std::make_unique<Page>();
    RecordingHost host;
    ExitCounters counters;
    Next serve() { return serve_exit(page->run, host, counters); }
};
}  // namespace

TEST_CASE("exits: port I/O of one element is a single access") {
    Fixture f;
    f.page->io(KVM_EXIT_IO_OUT, 2, 0x3F8, 1);
    f.page->data = {0x34, 0x12, 0xFF};
    CHECK(f.serve() == Next::resume);
    CHECK(f.host.port_writes == std::vector<Write>{{0x3F8, 2, 0x1234}});

    f.page->io(KVM_EXIT_IO_IN, 1, 0x60, 1);
    f.host.port_values[0x60] = 0xAA55;
    f.page->data = {0, 0x77};
    CHECK(f.serve() == Next::resume);
    CHECK(f.page->data[0] == 0x55);
    CHECK(f.page->data[1] == 0x77);  // one byte only
}

TEST_CASE("exits: string I/O is one block of all its elements") {
    Fixture f;
    f.page->io(KVM_EXIT_IO_IN, 2, 0x1F0, 256);
    CHECK(f.serve() == Next::resume);
    CHECK(f.host.blocks == std::vector<Write>{{0x1F0, 2, 512}});
    CHECK(f.page->data[3] == 4);
    f.page->io(KVM_EXIT_IO_OUT, 1, 0x402, 3);
    f.page->data = {'v', 'i', 'v'};
    CHECK(f.serve() == Next::resume);
    CHECK(f.host.port_writes == std::vector<Write>{{0x402, 1, 'v'}, {0x402, 1, 'i'}, {0x402, 1, 'v'}});
}

TEST_CASE("exits: memory accesses of 1 to 8 bytes go to the host") {
    Fixture f;
    f.page->run.exit_reason = KVM_EXIT_MMIO;
    for (uint32_t size = 1; size <= 8; ++size) {
        f.host.memory_writes.clear();
        f.page->run.mmio.phys_addr = 0xFED00000;
        f.page->run.mmio.len = size;
        f.page->run.mmio.is_write = 1;
        for (uint8_t i = 0; i < 8; ++i) f.page->run.mmio.data[i] = static_cast<uint8_t>(i + 1);
        CHECK(f.serve() == Next::resume);
        const uint64_t all = 0x0807060504030201;
        CHECK(f.host.memory_writes == std::vector<Write>{{0xFED00000, static_cast<uint8_t>(size),
                                                          size == 8 ? all : all & ((1ULL << size * 8) - 1)}});
    }
    f.host.memory_values[0xFED00010] = 0x1122334455667788;
    f.page->run.mmio.phys_addr = 0xFED00010;
    f.page->run.mmio.len = 4;
    f.page->run.mmio.is_write = 0;
    CHECK(f.serve() == Next::resume);
    CHECK(f.page->run.mmio.data[3] == 0x55);
    CHECK(f.page->run.mmio.data[4] == 5);  // as it was
}

TEST_CASE("exits: an EOI goes to the IOAPIC and unknown MSRs are refused and counted") {
    Fixture f;
    f.page->run.exit_reason = KVM_EXIT_IOAPIC_EOI;
    f.page->run.eoi.vector = 0x51;
    CHECK(f.serve() == Next::resume);
    CHECK(f.host.ends == std::vector<uint8_t>{0x51});
    for (const uint32_t reason : {uint32_t{KVM_EXIT_X86_RDMSR}, uint32_t{KVM_EXIT_X86_WRMSR}}) {
        f.page->run.exit_reason = reason;
        f.page->run.msr.error = 0;
        CHECK(f.serve() == Next::resume);
        CHECK(f.page->run.msr.error == 1);
    }
    CHECK(f.counters.unknown_msrs.get() == 2);
}

TEST_CASE("exits: every reason has an outcome, also those of the future") {
    Fixture f;
    for (uint32_t reason = 0; reason < 64; ++reason) {
        if (reason == KVM_EXIT_IO || reason == KVM_EXIT_MMIO) continue;
        f.page->run.exit_reason = reason;
        f.page->run.internal.suberror = 3;
        const Next next = f.serve();
        const ExitReason known = classify(reason);
        INFO(reason << " " << name_of(known));
        switch (known) {
            case ExitReason::halt: CHECK(next == Next::halted); break;
            case ExitReason::shutdown: CHECK(next == Next::shutdown); break;
            case ExitReason::debug: CHECK(next == Next::debug); break;
            case ExitReason::fail_entry:
            case ExitReason::internal_error:
            case ExitReason::exception:
            case ExitReason::dirty_ring_full:
            case ExitReason::notify:
            case ExitReason::hyperv:
            case ExitReason::xen:
            case ExitReason::system_event:
            case ExitReason::unknown: CHECK(next == Next::failed); break;
            default: CHECK(next == Next::resume); break;
        }
        CHECK_FALSE(describe_exit(f.page->run).empty());
    }
    CHECK(classify(9999) == ExitReason::unknown);
    f.page->run.exit_reason = 9999;
    CHECK(describe_exit(f.page->run).find("9999") != std::string::npos);
}

TEST_CASE("exits: an instruction that KVM cannot emulate is shown in bytes") {
    Fixture f;
    f.page->run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
    f.page->run.emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
    f.page->run.emulation_failure.ndata = 4;
    f.page->run.emulation_failure.flags = 1;
    f.page->run.emulation_failure.insn_size = 2;
    f.page->run.emulation_failure.insn_bytes[0] = 0xD9;
    f.page->run.emulation_failure.insn_bytes[1] = 0x6C;
    CHECK(f.serve() == Next::emulate);
    CHECK(describe_exit(f.page->run).find("bytes d9 6c") != std::string::npos);
    // A guest cannot make us read past the page.
    f.page->run.emulation_failure.insn_size = 255;
    f.page->run.internal.ndata = 0xFFFFFFFF;
    CHECK(describe_exit(f.page->run).size() < 400);
}

TEST_CASE("exits: the log keeps the last 64") {
    ExitLog log;
    auto page = std::make_unique<Page>();
    for (uint16_t port = 0; port < 100; ++port) {
        page->io(KVM_EXIT_IO_OUT, 1, port, 1);
        log.add(page->run);
    }
    const std::string text = log.text();
    CHECK(std::ranges::count(text, '\n') == 64);
    CHECK(text.find("write 0x63, 1 byte\n") != std::string::npos);
    CHECK(text.find("write 0x23, 1 byte\n") == std::string::npos);
    CHECK(text.find("write 0x24, 1 byte\n") != std::string::npos);
}
