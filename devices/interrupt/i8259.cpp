// Models: the 8259A pair of a PC as the PIIX3 has it, with the edge/level control registers (ELCR) at 4D0h/4D1h.
// Not modelled: buffered mode (ICW4 BUF, M/S: no bus to buffer); the third INTA cycle of MCS-80/85 mode.
// Ignored bits: ICW1 LTIM (the ELCR replaces it), ICW1 D7-D5 outside MCS-80/85 mode, OCW2/OCW3 reserved bits.
// Reference: Intel 8259A data sheet (231468), "Programming the 8259A"; Intel 82371SB (290550), 2.5.3 and 2.5.4.
#include "devices/interrupt/i8259.hpp"

#include <array>
#include <optional>

#include "devices/byte_ports.hpp"
#include "devices/interrupt/interrupt_controller.hpp"
#include "devices/interrupt/ioapic_control.hpp"
#include "devices/interrupt/isa_irqs.hpp"

namespace viv {
namespace {

constexpr uint8_t bit(unsigned n) {
    return static_cast<uint8_t>(1u << n);
}

// A0 of the chip.
enum class Port : uint64_t {
    Command = 0,  // rw  write ICW1 (D4 = 1), OCW2 (D4-D3 = 00), OCW3 (01); read IRR, ISR or the poll byte
    Data = 1,     // rw  write ICW2-ICW4 during initialization, else OCW1; read IMR
};

constexpr uint8_t ICW1_IC4 = 0x01;
constexpr uint8_t ICW1_SNGL = 0x02;
constexpr uint8_t ICW1_ADI = 0x04;  // MCS-80/85: call address interval of 4, not 8
constexpr uint8_t ICW1 = 0x10;
constexpr uint8_t ICW4_uPM = 0x01;  // 8086 mode
constexpr uint8_t ICW4_AEOI = 0x02;
constexpr uint8_t ICW4_SFNM = 0x10;
constexpr uint8_t OCW3 = 0x08;
constexpr uint8_t OCW3_RIS = 0x01;
constexpr uint8_t OCW3_RR = 0x02;
constexpr uint8_t OCW3_P = 0x04;
constexpr uint8_t OCW3_SMM = 0x20;
constexpr uint8_t OCW3_ESMM = 0x40;
constexpr uint8_t POLL_I = 0x80;

// OCW2 D7-D5.
enum class Eoi : uint8_t {
    RotateInAutomaticEoiClear = 0,
    NonSpecificEoi = 1,
    NoOperation = 2,
    SpecificEoi = 3,
    RotateInAutomaticEoiSet = 4,
    RotateOnNonSpecificEoi = 5,
    SetPriority = 6,
    RotateOnSpecificEoi = 7,
};

// What a write to the data port is taken as.
enum class Expect : uint8_t { Ocw1, Icw2, Icw3, Icw4 };

constexpr unsigned cascade_pin = 2;
constexpr uint8_t spurious_level = 7;
// IRQ 0, 1, 2, 8 and 13 are always edge-triggered (82371SB, 2.5.4).
constexpr std::array<uint8_t, 2> elcr_writable = {0xF8, 0xDE};

struct ChipState {
    uint8_t lines = 0;  // levels of IR0-IR7
    uint8_t edges = 0;  // inputs that rose and have neither fallen nor been acknowledged since
    uint8_t isr = 0;
    uint8_t imr = 0;
    uint8_t elcr = 0;
    uint8_t icw1 = 0;
    uint8_t icw2 = 0;
    uint8_t icw3 = 0;
    uint8_t icw4 = 0;
    Expect expect = Expect::Ocw1;
    bool initialized = false;  // before the first ICW1 sequence has ended the chip requests nothing
    uint8_t lowest_priority = 7;
    bool rotate_in_aeoi = false;
    bool special_mask = false;
    bool poll = false;
    bool read_isr = false;

    static void fields(auto& self, auto&& visit) {
        visit("lines", self.lines);
        visit("edges", self.edges);
        visit("isr", self.isr);
        visit("imr", self.imr);
        visit("elcr", self.elcr);
        visit("icw1", self.icw1);
        visit("icw2", self.icw2);
        visit("icw3", self.icw3);
        visit("icw4", self.icw4);
        visit("expect", self.expect);
        visit("initialized", self.initialized);
        visit("lowest_priority", self.lowest_priority);
        visit("rotate_in_aeoi", self.rotate_in_aeoi);
        visit("special_mask", self.special_mask);
        visit("poll", self.poll);
        visit("read_isr", self.read_isr);
    }
    bool operator==(const ChipState&) const = default;
};

struct PairState {
    std::array<ChipState, 2> chips;  // master, slave
    static void fields(auto& self, auto&& visit) { visit("chips", self.chips); }
    bool operator==(const PairState&) const = default;
};

/// One 8259A: its registers and its priority resolver, without the wires between the two.
class Chip {
  public:
    enum class Role { Master, Slave };
    Chip(ChipState& state, Role role) : state_(state), role_(role) {}

    void set_line(unsigned pin, bool level) {
        if (!level) {
            // The request goes with the line: the inputs must stay high until the first INTA (data sheet, "Edge and
            // Level Triggered Modes").
            state_.lines = static_cast<uint8_t>(state_.lines & ~bit(pin));
            state_.edges = static_cast<uint8_t>(state_.edges & ~bit(pin));
        } else if (!(state_.lines & bit(pin))) {
            state_.lines |= bit(pin);
            state_.edges |= bit(pin);
        }
    }

    [[nodiscard]] uint8_t irr() const {
        return static_cast<uint8_t>((state_.lines & state_.elcr) | (state_.edges & ~state_.elcr));
    }

    /// The INT output.
    [[nodiscard]] bool interrupt() const { return request().has_value(); }

    /// Takes the request of the highest priority into service; nothing when there is none (any more).
    std::optional<uint8_t> accept() {
        const auto level = request();
        if (!level) return std::nullopt;
        state_.edges = static_cast<uint8_t>(state_.edges & ~bit(*level));
        if (!(state_.icw4 & ICW4_AEOI)) {
            state_.isr |= bit(*level);
        } else if (state_.rotate_in_aeoi) {
            state_.lowest_priority = *level;
        }
        return level;
    }

    /// What the chip puts on the bus in the second INTA cycle.
    [[nodiscard]] uint8_t vector(uint8_t level) const {
        if (state_.icw4 & ICW4_uPM) return static_cast<uint8_t>((state_.icw2 & 0xF8) | level);
        if (state_.icw1 & ICW1_ADI) return static_cast<uint8_t>((state_.icw1 & 0xE0) | level << 2);
        return static_cast<uint8_t>((state_.icw1 & 0xC0) | level << 3);
    }

    [[nodiscard]] bool has_slave(uint8_t level) const {
        return !(state_.icw1 & ICW1_SNGL) && (state_.icw3 & bit(level));
    }
    [[nodiscard]] bool answers_cascade(unsigned id) const { return (state_.icw3 & 7) == id; }

    uint8_t read(Port port) {
        if (state_.poll) {
            state_.poll = false;
            const auto level = accept();
            return level ? static_cast<uint8_t>(POLL_I | *level) : uint8_t{0};
        }
        if (port == Port::Data) return state_.imr;
        return state_.read_isr ? state_.isr : irr();
    }

    void write(Port port, uint8_t value) {
        if (port == Port::Data) {
            write_data(value);
        } else if (value & ICW1) {
            start_initialization(value);
        } else if (value & OCW3) {
            write_ocw3(value);
        } else {
            write_ocw2(value);
        }
    }

    void reset() { state_ = ChipState{.lines = state_.lines}; }

  private:
    [[nodiscard]] std::optional<uint8_t> request() const {
        if (!state_.initialized) return std::nullopt;
        const auto requested = static_cast<uint8_t>(irr() & ~state_.imr);
        const uint8_t blocking = in_service();
        const bool fully_nested_slaves = role_ == Role::Master && (state_.icw4 & ICW4_SFNM);
        for (unsigned i = 1; i <= 8; ++i) {
            const auto level = static_cast<uint8_t>((state_.lowest_priority + i) & 7);
            const bool blocks = blocking & bit(level);
            if ((requested & bit(level)) && (!blocks || (fully_nested_slaves && has_slave(level)))) return level;
            if (blocks) return std::nullopt;
        }
        return std::nullopt;
    }

    /// The levels in service that the resolver and a non-specific EOI look at.
    [[nodiscard]] uint8_t in_service() const {
        return state_.special_mask ? static_cast<uint8_t>(state_.isr & ~state_.imr) : state_.isr;
    }

    void start_initialization(uint8_t value) {
        state_ = ChipState{.lines = state_.lines, .elcr = state_.elcr, .icw2 = state_.icw2};
        state_.icw1 = value;
        state_.icw3 = role_ == Role::Slave ? 7 : 0;
        state_.expect = Expect::Icw2;
    }

    void write_data(uint8_t value) {
        switch (state_.expect) {
            case Expect::Ocw1: state_.imr = value; return;
            case Expect::Icw2:
                state_.icw2 = value;
                if (!(state_.icw1 & ICW1_SNGL)) {
                    state_.expect = Expect::Icw3;
                    return;
                }
                break;
            case Expect::Icw3: state_.icw3 = value; break;
            case Expect::Icw4: state_.icw4 = value; return end_initialization();
        }
        if (!(state_.icw1 & ICW1_IC4)) return end_initialization();
        state_.expect = Expect::Icw4;
    }

    void end_initialization() {
        state_.expect = Expect::Ocw1;
        state_.initialized = true;
    }

    void write_ocw2(uint8_t value) {
        const auto level = static_cast<uint8_t>(value & 7);
        switch (static_cast<Eoi>(value >> 5)) {
            case Eoi::RotateInAutomaticEoiClear: state_.rotate_in_aeoi = false; break;
            case Eoi::RotateInAutomaticEoiSet: state_.rotate_in_aeoi = true; break;
            case Eoi::NoOperation: break;
            case Eoi::NonSpecificEoi: end_highest(); break;
            case Eoi::RotateOnNonSpecificEoi:
                if (const auto ended = end_highest()) state_.lowest_priority = *ended;
                break;
            case Eoi::SetPriority: state_.lowest_priority = level; break;
            case Eoi::RotateOnSpecificEoi: state_.lowest_priority = level; [[fallthrough]];
            case Eoi::SpecificEoi: state_.isr = static_cast<uint8_t>(state_.isr & ~bit(level)); break;
        }
    }

    std::optional<uint8_t> end_highest() {
        for (unsigned i = 1; i <= 8; ++i) {
            const auto level = static_cast<uint8_t>((state_.lowest_priority + i) & 7);
            if (!(in_service() & bit(level))) continue;
            state_.isr = static_cast<uint8_t>(state_.isr & ~bit(level));
            return level;
        }
        return std::nullopt;
    }

    void write_ocw3(uint8_t value) {
        state_.poll = value & OCW3_P;
        if (value & OCW3_RR) state_.read_isr = value & OCW3_RIS;
        if (value & OCW3_ESMM) state_.special_mask = value & OCW3_SMM;
    }

    ChipState& state_;
    Role role_;
};

class I8259Pair final : public StatefulDevice<PairState>, public InterruptController, private IrqSink {
  public:
    void connect_intr(IrqSink& sink, unsigned pin) override { intr_pin_.connect(sink, pin); }
    [[nodiscard]] bool intr() const override { return intr_.level(); }

    uint8_t acknowledge() override {
        const auto level = master_.accept();
        uint8_t vector = master_.vector(level.value_or(spurious_level));
        if (level && master_.has_slave(*level)) {
            vector = 0xFF;  // nobody drives the bus
            if (*level == cascade_pin && slave_.answers_cascade(cascade_pin)) {
                vector = slave_.vector(slave_.accept().value_or(spurious_level));
                // INT falls in the INTA cycle, so that the slave's next request is an edge to the master.
                master_.set_line(cascade_pin, false);
            }
        }
        update_irq();
        return vector;
    }

    [[nodiscard]] bool waits(unsigned irq) const override {
        const Chip& chip = irq < 8 ? master_ : slave_;
        const ChipState& state = state_.chips[irq < 8 ? 0 : 1];
        return state.initialized && (chip.irr() & ~state.imr & bit(irq % 8));
    }

    void reset(ResetKind /*kind*/) override {
        master_.reset();
        slave_.reset();
        update_irq();
    }

    Result<void> attach(const DeviceContext& context) {
        TRY(context.map(0, master_ports_));
        TRY(context.map(1, slave_ports_));
        TRY(context.map(2, elcr_ports_));
        IsaIrqs& isa = *TRY(context.need<IsaIrqs>("the ISA interrupt wires"));
        for (unsigned irq = 0; irq < isa.pins.size(); ++irq) {
            if (irq != cascade_pin) isa.pins[irq].connect(*this, irq);
        }
        // INTR also reaches pin 0 of an IOAPIC, for guests that route the pair through it (ExtINT).
        if (auto* ioapic = context.services.find<IoApicControl>()) intr_pin_.connect(ioapic->inputs(), 0);
        context.services.provide<InterruptController>(*this);
        return {};
    }

  protected:
    Result<void> validate(const PairState& staged) const override {
        for (size_t i = 0; i < staged.chips.size(); ++i) {
            const ChipState& chip = staged.chips[i];
            if (chip.lowest_priority > 7 || chip.expect > Expect::Icw4 || (chip.elcr & ~elcr_writable[i]) ||
                (chip.edges & ~chip.lines)) {
                return fail("8259A: the saved state holds what the chip cannot");
            }
        }
        return {};
    }
    void after_load() override { update_irq(); }

  private:
    void set_irq_level(unsigned irq, bool level) override {
        (irq < 8 ? master_ : slave_).set_line(irq % 8, level);
        update_irq();
    }

    void update_irq() {
        master_.set_line(cascade_pin, slave_.interrupt());
        intr_.set(master_.interrupt());
    }

    uint8_t read_chip(Chip& chip, uint64_t offset) {
        const uint8_t value = chip.read(static_cast<Port>(offset & 1));
        update_irq();  // a poll acknowledges
        return value;
    }
    void write_chip(Chip& chip, uint64_t offset, uint8_t value) {
        chip.write(static_cast<Port>(offset & 1), value);
        update_irq();
    }
    uint8_t read_master(uint64_t offset) { return read_chip(master_, offset); }
    void write_master(uint64_t offset, uint8_t value) { write_chip(master_, offset, value); }
    uint8_t read_slave(uint64_t offset) { return read_chip(slave_, offset); }
    void write_slave(uint64_t offset, uint8_t value) { write_chip(slave_, offset, value); }
    uint8_t read_elcr(uint64_t offset) { return state_.chips[offset & 1].elcr; }
    void write_elcr(uint64_t offset, uint8_t value) {
        state_.chips[offset & 1].elcr = value & elcr_writable[offset & 1];
        update_irq();
    }

    Chip master_{state_.chips[0], Chip::Role::Master};
    Chip slave_{state_.chips[1], Chip::Role::Slave};
    BytePorts<I8259Pair> master_ports_{*this, &I8259Pair::read_master, &I8259Pair::write_master};
    BytePorts<I8259Pair> slave_ports_{*this, &I8259Pair::read_slave, &I8259Pair::write_slave};
    BytePorts<I8259Pair> elcr_ports_{*this, &I8259Pair::read_elcr, &I8259Pair::write_elcr};
    IrqPin intr_pin_;
    IrqLine intr_{intr_pin_};
};

}  // namespace

Result<std::unique_ptr<Device>> make_i8259(DeviceContext& context) {
    auto pair = std::make_unique<I8259Pair>();
    TRY(pair->attach(context));
    return pair;
}

}  // namespace viv
