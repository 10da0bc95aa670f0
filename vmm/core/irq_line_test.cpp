#include "vmm/core/irq_line.hpp"

#include <string>

#include "vmm/core/catch.hpp"

using namespace viv;

namespace {
struct Log final : IrqSink {
    void set_irq_level(unsigned pin, bool level) override { text += std::to_string(pin) + (level ? "+" : "-"); }
    std::string text;
};
}  // namespace

TEST_CASE("Setting the same level twice is silent") {
    Log log;
    IrqPin pin;
    pin.connect(log, 4);
    IrqLine line(pin);
    line.set(true);
    line.set(true);
    line.set(false);
    line.set(false);
    CHECK(log.text == "4+4-");
}

TEST_CASE("Lines that share a pin are ORed") {
    Log log;
    IrqPin pin;
    pin.connect(log, 4);
    IrqLine com1(pin), com3(pin);
    com1.set(true);
    com3.set(true);
    com1.set(false);
    CHECK(log.text == "4+");
    com3.set(false);
    CHECK(log.text == "4+4-");
}

TEST_CASE("Every controller on a pin sees it, also one that comes late") {
    Log pic, ioapic;
    IrqPin pin;
    pin.connect(pic, 0);
    IrqLine line(pin);
    line.set(true);
    pin.connect(ioapic, 2);
    CHECK(pic.text == "0+");
    CHECK(ioapic.text == "2+");
}

TEST_CASE("A line that goes away lets its wire fall, a moved one keeps it") {
    Log log;
    IrqPin pin;
    pin.connect(log, 1);
    {
        IrqLine line(pin);
        line.set(true);
        const IrqLine moved(std::move(line));
        CHECK(log.text == "1+");
        CHECK(moved.level());
    }
    CHECK(log.text == "1+1-");
}
