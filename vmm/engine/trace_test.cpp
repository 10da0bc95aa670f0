#include "vmm/engine/trace.hpp"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "vmm/core/catch.hpp"
#include "vmm/engine/soft/soft_engine.hpp"
#include "vmm/engine/soft/test_machine.hpp"

using namespace viv;

namespace {

/// A file that goes away with the test.
struct TemporaryFile {
    TemporaryFile() { close(mkstemp(path.data())); }
    ~TemporaryFile() { unlink(path.c_str()); }
    [[nodiscard]] std::string text() const {
        std::ifstream in(path);
        std::stringstream all;
        all << in.rdbuf();
        return all.str();
    }
    std::string path = "/tmp/viv-trace-XXXXXX";
};

/// mov al, 41h; out E9h, al; int 21h; hlt, and at 2000h nop; iret.
std::string trace_of_program(const TraceChoice& choice) {
    TemporaryFile file;
    {
        auto trace = Trace::open(file.path, choice);
        REQUIRE(trace);
        soft_test::TestMachine m;
        m.vcpu.reset();
        auto made = make_soft_engine(EngineConfig{.memory = m.memory, .trace = trace->get()}, m.clock);
        REQUIRE(made);
        m.engine = std::move(*made);
        m.vcpu = *m.engine->create_vcpu(VcpuId{0});
        m.memory.store(Gpa{0x21 * 4}, uint32_t{0x00002000});
        m.code(0x1000, {0xB0, 0x41, 0xE6, 0xE9, 0xCD, 0x21, 0xF4});
        m.code(0x2000, {0x90, 0xCF});
        m.start_real(0x1000);
        TracingHost host(m, **trace, VcpuId{0}, [&m] { return m.vcpu->instructions(); });
        REQUIRE(m.vcpu->run(host, 1000) == Stop::halted);
        CHECK(m.vcpu->instructions() == 6);
    }
    return file.text();
}

}  // namespace

TEST_CASE("A trace tells of instructions, exits and interrupts in their order") {
    CHECK(trace_of_program({}) ==
          "0 0 insn  r0 1000 b041             mov al, 0x41\n"
          "0 1 insn  r0 1002 e6e9             out 0xE9, al\n"
          "0 2 exit  port write 0xe9 1 0x41\n"
          "0 2 insn  r0 1004 cd21             int 0x21\n"
          "0 3 int   r0 1006 0x21 software\n"
          "0 3 insn  r0 2000 90               nop\n"
          "0 4 insn  r0 2001 cf               iret\n"
          "0 5 insn  r0 1006 f4               hlt\n");
}

TEST_CASE("A trace has what was asked for and nothing else") {
    CHECK(trace_of_program(*parse_trace_choice("exits")) == "0 2 exit  port write 0xe9 1 0x41\n");
    CHECK(trace_of_program(*parse_trace_choice("interrupts")) == "0 3 int   r0 1006 0x21 software\n");
    CHECK(trace_of_program(*parse_trace_choice("instructions,range=2000-2000")) ==
          "0 3 insn  r0 2000 90               nop\n");
    CHECK(trace_of_program(*parse_trace_choice("instructions,interrupts,ring=3")).empty());
}

TEST_CASE("What to trace is read as it is written") {
    CHECK(parse_trace_choice("ring=3")->rings == std::array<bool, 4>{false, false, false, true});
    CHECK(parse_trace_choice("ring=3")->exits);
    CHECK(parse_trace_choice("range=0x7c00-7DFF")->first == 0x7C00);
    CHECK(parse_trace_choice("range=0x7c00-7DFF")->last == 0x7DFF);
    for (const char* wrong : {"", "everything", "ring=4", "ring=", "range=7c00", "range=-", "range=2-1", "exits,"}) {
        INFO(wrong);
        const auto choice = parse_trace_choice(wrong);
        REQUIRE_FALSE(choice);
        CHECK(choice.error().kind == ErrorKind::usage);
    }
}

TEST_CASE("A trace that cannot be opened is an error, and one that fills its disk ends without one") {
    CHECK_FALSE(Trace::open("/nowhere/trace", {}));
    const auto full = Trace::open("/dev/full", {});
    REQUIRE(full);
    for (int n = 0; n < 10'000; ++n) (*full)->line(VcpuId{0}, 0, "0123456789");
}
