#pragma once

#include <array>

#include "vmm/engine/cpu_model.hpp"
#include "vmm/engine/soft/bits.hpp"
#include "vmm/engine/soft/control_flow.hpp"
#include "vmm/engine/soft/decode.hpp"
#include "vmm/engine/soft/muldiv.hpp"
#include "vmm/engine/soft/select.hpp"
#include "vmm/engine/soft/strings.hpp"
#include "vmm/engine/soft/system.hpp"

namespace viv::soft {

/// The segment of the source of a string instruction and its like.
uint8_t source_segment(const Decoded& d);

/// Makes a handler with operands of one integer or system instruction; each aspect in a file of its own.
class Translator {
  public:
    Translator(const CpuFeatureSet& features, const Decoded& d, uint8_t flavour, Insn& out)
        : features_(features), d_(d), flavour_(flavour), out_(out) {}

    /// False when it is none of these.
    bool run();
    [[nodiscard]] Flow flow() const { return flow_; }

  private:
    bool set(Handler handler) {
        out_.handler = handler;
        return true;
    }
    bool set_ending(Handler handler) {
        flow_ = Flow::ends;
        return set(handler);
    }
    [[nodiscard]] uint64_t address_mask() const {
        return d_.z.address_width == 64 ? ~uint64_t{0} : (uint64_t{1} << d_.z.address_width) - 1;
    }

    Form form2() const;
    /// Two operands, the destination first.
    Form operands2();
    Form operand1();
    bool binary(Binary operation);
    bool unary(Unary operation);
    bool shift(Shift operation);
    bool double_shift(DoubleShift direction);
    bool bit(BitOp operation);
    bool scan(BitScan operation);
    bool arithmetic(ZydisMnemonic m);
    bool imul();

    // translate_moves.cpp
    using Conditions = std::array<ZydisMnemonic, 16>;
    bool mov();
    static bool is_special(ZydisRegister reg);
    bool mov_special(bool to, ZydisRegister reg);
    /// A load of SS has a shadow, and any may change whether data needs checks.
    template <Semantics function>
    bool load_segment_handler();
    bool moves(ZydisMnemonic m);
    bool extend(Extend kind);
    bool push_operand();
    bool pop_operand();
    bool far_load(Seg which);
    static int condition_of(ZydisMnemonic m, const Conditions& list);

    // translate_branches.cpp
    [[nodiscard]] bool is_far() const { return d_.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR; }
    void direct_target();
    bool far_target(Handler handler);
    bool loop(LoopKind kind);
    /// A REP prefix decides over the opcode, as processors do and no manual says.
    LoopKind loop_kind() const;
    bool branches(ZydisMnemonic m);
    bool string(StringOp operation, unsigned size);
    bool strings(ZydisMnemonic m);

    // translate_system.cpp
    bool plain(ZydisMnemonic m);
    bool port(Handler handler, unsigned operand);
    bool system(ZydisMnemonic m);
    bool set_sized(Handler handler);
    bool base(Handler handler, Seg which);

    const CpuFeatureSet& features_;
    const Decoded& d_;
    uint8_t flavour_;
    Insn& out_;
    Flow flow_ = Flow::goes_on;
};

}  // namespace viv::soft
