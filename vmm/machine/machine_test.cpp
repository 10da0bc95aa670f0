#include "vmm/machine/machine.hpp"

#include <array>
#include <atomic>
#include <deque>

#include "bios/layout.hpp"
#include "vmm/boards/board.hpp"
#include "vmm/boards/board_edit.hpp"
#include "vmm/boot/kernel_test_files.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/firmware/power_on.hpp"

using namespace viv;
using namespace std::chrono_literals;

namespace {

/// What the fake CPU does in one run(): anything a guest could make it do, or wait for a kick.
using Act = std::function<Stop(VcpuHost&)>;

struct FakeState {
    std::mutex lock;
    std::condition_variable changed;
    std::deque<Act> acts;
    bool kicked = false;
    bool intr = false;
    std::vector<CpuState> set;
    std::vector<bool> a20;
};

class FakeVcpu final : public Vcpu {
  public:
    explicit FakeVcpu(FakeState& state) : fake_(state) {}
    Stop run(VcpuHost& host, uint64_t) override {
        Act act;
        {
            std::unique_lock hold(fake_.lock);
            fake_.changed.wait(hold, [this] { return fake_.kicked || !fake_.acts.empty(); });
            fake_.kicked = false;
            if (fake_.acts.empty()) return Stop::kicked;
            act = std::move(fake_.acts.front());
            fake_.acts.pop_front();
        }
        return act(host);
    }
    void kick() override {
        const std::lock_guard hold(fake_.lock);
        fake_.kicked = true;
        fake_.changed.notify_all();
    }
    void set_intr(bool level) override {
        const std::lock_guard hold(fake_.lock);
        fake_.intr = level;
    }
    void inject_nmi() override {}
    Result<CpuState> state() override { return fake_.set.back(); }
    Result<void> set_state(const CpuState& state) override {
        const std::lock_guard hold(fake_.lock);
        fake_.set.push_back(state);
        return {};
    }
    uint64_t instructions() const override { return 0; }
    std::string failure() const override { return "the fake gave up"; }

  private:
    FakeState& fake_;
};

class FakeEngine final : public Engine {
  public:
    explicit FakeEngine(FakeState& state) : fake_(state) {}
    std::string_view name() const override { return "fake"; }
    std::vector<std::string> limits() const override { return {}; }
    Result<std::unique_ptr<Vcpu>> create_vcpu(VcpuId) override { return std::make_unique<FakeVcpu>(fake_); }
    void set_a20(bool enabled) override { fake_.a20.push_back(enabled); }
    void send(uint64_t, uint32_t) override {}
    void set_ioapic_routes(std::span<const IoApicRoute>) override {}
    EngineCounters counters() const override { return {}; }

  private:
    FakeState& fake_;
};

struct Rig {
    FakeState fake;
    std::unique_ptr<Machine> machine;

    explicit Rig(TreeNode board = default_board(), TripleFault triple_fault = TripleFault::reset) {
        auto made = Machine::create({std::move(board),
                                     [this](const EngineConfig&, EngineClock) -> Result<ChosenEngine> {
                                         return ChosenEngine{std::make_unique<FakeEngine>(fake), {}};
                                     },
                                     {},
                                     1'700'000'000,
                                     triple_fault});
        INFO((made ? std::string() : made.error().message));
        REQUIRE(made);
        machine = std::move(*made);
    }
    void act(Act what) {
        const std::lock_guard hold(fake.lock);
        fake.acts.push_back(std::move(what));
        fake.changed.notify_all();
    }
    size_t states_set() {
        const std::lock_guard hold(fake.lock);
        return fake.set.size();
    }
    template <class Condition>
    void eventually(Condition condition) {
        for (int i = 0; i < 2000 && !condition(); ++i) std::this_thread::sleep_for(5ms);
        REQUIRE(condition());
    }
    template <class T>
    T low(uint64_t address) {
        return machine->memory().load<T>(Gpa{address});
    }
};

}  // namespace

TEST_CASE("Power-on leaves the machine as a PC's POST does") {
    Rig rig;
    rig.machine->start();
    rig.eventually([&] { return rig.states_set() == 1; });
    const CpuState state = rig.fake.set.front();
    CHECK(state.cs.selector == 0xF000);
    CHECK(state.cs.base == 0xF0000);
    CHECK((state.cr0 & 1) == 0);
    // IVT, BDA, EBDA.
    CHECK(rig.low<uint16_t>(0x13 * 4 + 2) == 0xF000);
    CHECK(rig.low<uint16_t>(0x10 * 4 + 2) == 0xC000);
    CHECK(rig.low<uint32_t>(0x60 * 4) == 0);
    CHECK(rig.low<uint16_t>(0x400) == 0x3F8);
    CHECK(rig.low<uint16_t>(0x402) == 0x2F8);
    CHECK(rig.low<uint16_t>(0x413) == rom::base_memory_kib);
    CHECK(rig.low<uint8_t>(0x449) == 3);
    CHECK(rig.low<uint16_t>(0x44A) == 80);
    const uint64_t ebda = uint64_t{rig.low<uint16_t>(0x40E)} * 16;
    CHECK(rig.low<uint8_t>(ebda) == rom::ebda_size_kib);
    CHECK(rig.low<uint32_t>(ebda + offsetof(rom::Ebda, e820_count)) == 5);
    // ROMs: signature of the video ROM, far jump at the reset vector, the alias below 4 GiB, and writes fall off.
    CHECK(rig.low<uint16_t>(0xC0000) == 0xAA55);
    CHECK(rig.low<uint8_t>(0xFFFF0) == 0xEA);
    CHECK(rig.low<uint8_t>(0xFFFFFFF0) == 0xEA);
    CHECK_FALSE(rig.machine->memory().store(Gpa{0xF0000}, uint8_t{0}));
}

TEST_CASE("Another firmware starts at the reset vector of a board that nobody has powered on") {
    std::vector<std::byte> image(256 * 1024);
    for (size_t i = 0; i < image.size(); ++i) image[i] = static_cast<std::byte>(i >> 12);
    const boot::TemporaryFile file(image);
    TreeNode board = default_board();
    set_firmware(board, file.path);
    Rig rig(std::move(board));
    rig.machine->start();
    rig.eventually([&] { return rig.states_set() == 1; });
    CHECK(rig.fake.set.front() == reset_state(true));
    CHECK(rig.low<uint8_t>(0x10 * 4) == 0);
    // All of it below 4 GiB, its last half below 1 MiB, and nothing in front of that.
    CHECK(rig.low<uint8_t>(0xFFFFFFF0) == 63);
    CHECK(rig.low<uint8_t>(0xFFFC0000) == 0);
    CHECK(rig.low<uint8_t>(0xFFFF0) == 63);
    CHECK(rig.low<uint8_t>(0xE0000) == 32);
    CHECK(rig.low<uint8_t>(0xDFFFF) == 0xFF);
    // A reset of the CPU alone is the firmware's business.
    rig.machine->memory().store(Gpa{0x500}, uint8_t{7});
    rig.act([](VcpuHost& host) {
        host.port_write(0x70, 1, 0x0F);
        host.port_write(0x71, 1, 0x0A);
        host.port_write(0x92, 1, 0x01);
        return Stop::kicked;
    });
    rig.eventually([&] { return rig.states_set() == 2; });
    CHECK(rig.fake.set.back() == reset_state(true));
    CHECK(rig.machine->resets() == 0);
}

TEST_CASE("A firmware of a wrong size, or together with a kernel, is refused") {
    const auto refused = [](size_t size, bool with_kernel, std::string_view part) {
        const std::vector<std::byte> image(size);
        const boot::TemporaryFile file(image);
        TreeNode board = default_board();
        set_firmware(board, file.path);
        if (with_kernel) REQUIRE(set_kernel(board, "/nonexistent"));
        FakeState fake;
        const auto made = Machine::create({std::move(board),
                                           [&](const EngineConfig&, EngineClock) -> Result<ChosenEngine> {
                                               return ChosenEngine{std::make_unique<FakeEngine>(fake), {}};
                                           },
                                           {}});
        REQUIRE_FALSE(made);
        INFO(made.error().message);
        CHECK(made.error().message.find(part) != std::string::npos);
    };
    refused(0, false, "has 0 bytes");
    refused(65535, false, "whole pages");
    refused((16 << 20) + 4096, false, "16 MiB");
    refused(65536, true, "either a kernel or a firmware");
}

TEST_CASE("CMOS tells the memory size and carries a right checksum") {
    TreeNode board = default_board();
    REQUIRE(set_memory_size(board, 64u << 20));
    Rig rig(std::move(board));
    rig.machine->start();
    const std::lock_guard hold(rig.machine->lock());
    Nvram& nvram = *rig.machine->services().find<Nvram>();
    CHECK((nvram.cmos(0x30) | nvram.cmos(0x31) << 8) == 63 * 1024);
    CHECK((nvram.cmos(0x34) | nvram.cmos(0x35) << 8) == 48 * 16);
    unsigned sum = 0;
    for (uint8_t i = 0x10; i <= 0x2D; ++i) sum += nvram.cmos(i);
    CHECK(((unsigned{nvram.cmos(0x2E)} << 8) | nvram.cmos(0x2F)) == (sum & 0xFFFF));
    CHECK(nvram.cmos(0x0B) == 0x02);
}

TEST_CASE("Memory above 3 GiB goes above 4 GiB") {
    CHECK(firmware::memory_layout(1u << 20).below_4g == 1u << 20);
    const auto layout = firmware::memory_layout(uint64_t{5} << 30);
    CHECK(layout.below_4g == uint64_t{3} << 30);
    CHECK(layout.above_4g == uint64_t{2} << 30);
}

TEST_CASE("Resets by the keyboard controller, port 92h, port CF9h and a triple fault power on again") {
    Rig rig;
    rig.machine->start();
    rig.eventually([&] { return rig.states_set() == 1; });
    size_t expected = 1;
    const auto reset_by = [&](Act act, std::string_view source) {
        rig.act(std::move(act));
        ++expected;
        rig.eventually([&] { return rig.states_set() == expected; });
        const std::lock_guard hold(rig.machine->lock());
        CHECK(rig.machine->resets() == expected - 1);
        INFO(source);
        CHECK(rig.machine->phase() == Phase::running);
    };
    reset_by([](VcpuHost& host) { return host.port_write(0x64, 1, 0xFE), Stop::kicked; }, "keyboard controller");
    reset_by([](VcpuHost& host) { return host.port_write(0x92, 1, 0x01), Stop::kicked; }, "port 92h");
    reset_by(
        [](VcpuHost& host) {
            host.port_write(0xCF9, 1, 0x02);
            host.port_write(0xCF9, 1, 0x06);
            return Stop::kicked;
        },
        "port CF9h");
    reset_by([](VcpuHost&) { return Stop::shutdown; }, "triple fault");
}

TEST_CASE("A CPU reset with shutdown code 0Ah goes on at 40:67 and leaves memory and devices alone") {
    Rig rig;
    rig.machine->start();
    rig.eventually([&] { return rig.states_set() == 1; });
    rig.machine->memory().store(Gpa{0x467}, uint32_t{0x12345678});
    rig.act([](VcpuHost& host) {
        host.port_write(0x70, 1, 0x0F);
        host.port_write(0x71, 1, 0x0A);
        host.port_write(0x64, 1, 0xFE);
        return Stop::kicked;
    });
    rig.eventually([&] { return rig.states_set() == 2; });
    const CpuState state = rig.fake.set.back();
    CHECK(state.cs.selector == 0x1234);
    CHECK(state.rip == 0x5678);
    CHECK(rig.low<uint32_t>(0x467) == 0x12345678);
    const std::lock_guard hold(rig.machine->lock());
    CHECK(rig.machine->resets() == 0);
}

TEST_CASE("The exit port ends the run with its code") {
    TreeNode board = default_board();
    REQUIRE(add_exit_port(board, 0x501));
    Rig rig(std::move(board));
    rig.machine->start();
    rig.act([](VcpuHost& host) { return host.port_write(0x501, 1, 42), Stop::kicked; });
    const auto outcome = rig.machine->wait(10s);
    REQUIRE(outcome);
    CHECK(outcome->kind == Outcome::Kind::guest_exit);
    CHECK(outcome->exit_code == 42);
}

TEST_CASE("A finished machine has no CPU inside a device any more, and finishing is ending") {
    TreeNode board = default_board();
    REQUIRE(add_exit_port(board, 0x501));
    Rig rig(std::move(board));
    rig.machine->start();
    std::atomic<bool> came_out = false;
    rig.act([&came_out](VcpuHost& host) {
        host.port_write(0x501, 1, 42);
        // The run has ended by now, but not for this CPU.
        std::this_thread::sleep_for(100ms);
        host.port_write(0x80, 1, 1);
        came_out = true;
        return Stop::kicked;
    });
    REQUIRE(rig.machine->wait(10s));
    rig.machine->finish();
    CHECK(came_out);
    rig.machine->finish();
    CHECK(rig.machine->wait(0s).value().exit_code == 42);

    Rig unasked;
    unasked.machine->start();
    unasked.machine->finish();
    CHECK(unasked.machine->phase() == Phase::stopped);
    CHECK(unasked.machine->wait(0s).value().kind == Outcome::Kind::stopped);
    Rig unstarted;
    unstarted.machine->finish();
    CHECK(unstarted.machine->phase() == Phase::stopped);
}

TEST_CASE("A failed engine and a triple fault that is to stop end the run with the reason") {
    Rig failing;
    failing.machine->start();
    failing.act([](VcpuHost&) { return Stop::failed; });
    CHECK(failing.machine->wait(10s).value().text == "the fake gave up");

    Rig faulting(default_board(), TripleFault::stop);
    faulting.machine->start();
    faulting.act([](VcpuHost&) { return Stop::shutdown; });
    const auto outcome = faulting.machine->wait(10s);
    REQUIRE(outcome);
    CHECK(outcome->kind == Outcome::Kind::died);
    CHECK(outcome->text.find("triple fault") != std::string::npos);
}

TEST_CASE("A paused machine runs nothing, its clock stands still, and a reset while paused takes effect") {
    Rig rig;
    rig.machine->start();
    rig.eventually([&] { return rig.states_set() == 1; });
    VirtualTime at;
    {
        const std::lock_guard hold(rig.machine->lock());
        rig.machine->pause();
        at = rig.machine->clock().now();
    }
    std::atomic<bool> ran = false;
    rig.act([&](VcpuHost&) { return ran = true, Stop::kicked; });
    std::this_thread::sleep_for(30ms);
    // The CPU may have taken the act before it came to rest, never after.
    rig.act([&](VcpuHost&) { return ran = true, Stop::kicked; });
    ran = false;
    std::this_thread::sleep_for(30ms);
    CHECK_FALSE(ran);
    {
        const std::lock_guard hold(rig.machine->lock());
        CHECK(rig.machine->clock().now() == at);
        rig.machine->reset("test");
    }
    rig.eventually([&] { return rig.states_set() == 2; });
    {
        const std::lock_guard hold(rig.machine->lock());
        rig.machine->resume();
    }
    rig.eventually([&] { return ran.load(); });
}

TEST_CASE("The timer interrupt reaches the CPU and its vector is 08h") {
    Rig rig;
    rig.machine->start();
    // Only the timer's: the floppy controller reports its reset by IRQ 6 at about the same time.
    std::atomic<bool> masked = false;
    rig.act([&](VcpuHost& host) { return host.port_write(0x21, 1, 0xFE), masked = true, Stop::kicked; });
    rig.eventually([&] {
        const std::lock_guard hold(rig.fake.lock);
        return masked.load() && rig.fake.intr;
    });
    std::atomic<int> vector = -1;
    rig.act([&](VcpuHost& host) { return vector = host.acknowledge_interrupt(), Stop::kicked; });
    rig.eventually([&] { return vector.load() >= 0; });
    CHECK(vector == 0x08);
}

TEST_CASE("Either A20 gate opens the line") {
    Rig rig;
    rig.machine->start();
    rig.eventually([&] { return rig.states_set() == 1; });
    rig.act([](VcpuHost& host) {
        host.port_write(0x92, 1, 0x00);
        host.port_write(0x64, 1, 0xD1);
        host.port_write(0x60, 1, 0xDD);  // A20 off at the keyboard controller
        host.port_write(0x92, 1, 0x02);
        host.port_write(0x92, 1, 0x00);
        return Stop::kicked;
    });
    rig.eventually([&] {
        const std::lock_guard hold(rig.machine->lock());
        return rig.fake.a20.size() >= 3 && !rig.fake.a20.back();
    });
    CHECK(std::ranges::count(rig.fake.a20, true) > 0);
}

TEST_CASE("A board without what power-on needs, or with a wrong CPU count, is refused") {
    FakeState fake;
    const auto create = [&](TreeNode board) {
        return Machine::create({std::move(board),
                                [&](const EngineConfig&, EngineClock) -> Result<ChosenEngine> {
                                    return ChosenEngine{std::make_unique<FakeEngine>(fake), {}};
                                },
                                {},
                                0,
                                TripleFault::reset});
    };
    TreeNode board = default_board();
    board.find("/isa/rtc@70")->set_string("status", "disabled");
    CHECK(create(board).error().message.find("real-time clock") != std::string::npos);
    board = default_board();
    board.child("cpus")->children.clear();
    CHECK(create(board).error().message.find("/cpus") == 0);
}
