// The handlers that the compiler knows. Each is asked of its family, so that nothing says twice what it does.
#include "vmm/engine/soft/operations.hpp"

#include <array>
#include <unordered_map>

#include "vmm/engine/soft/bits.hpp"
#include "vmm/engine/soft/control_flow.hpp"
#include "vmm/engine/soft/muldiv.hpp"
#include "vmm/engine/soft/system.hpp"

namespace viv::soft {
namespace {

using Kind = Operation::Kind;

constexpr std::array<uint8_t, 4> all_sizes{1, 2, 4, 8};
constexpr std::array<uint8_t, 3> wide_sizes{2, 4, 8};

class Table {
  public:
    Table() {
        for (const uint8_t size : all_sizes) add_sized(size);
        for (const uint8_t size : wide_sizes) add_wide(size);
        for (unsigned condition = 0; condition < 16; ++condition) add_conditional(static_cast<uint8_t>(condition));
        add(simple<nop>, {Kind::nop});
        add(jmp_direct, {Kind::jmp});
        add(end_of_block, {Kind::end_of_block});
        for (const uint8_t size : {uint8_t{4}, uint8_t{8}}) add_stack(size);
    }
    [[nodiscard]] Operation find(Handler handler) const {
        const auto found = operations_.find(handler);
        return found == operations_.end() ? Operation{} : found->second;
    }

  private:
    void add(Handler handler, Operation operation) {
        if (handler) operations_.emplace(handler, operation);
    }

    void add_stack(uint8_t size) {
        add(call_direct_handler(size), {Kind::call, Form::ri, size});
        add(ret_handler(size), {Kind::ret, Form::ri, size});
        for (const Form form : {Form::r, Form::m}) {
            add(jmp_indirect_handler(form, size), {Kind::jmp_indirect, form, size});
            add(call_indirect_handler(form, size), {Kind::call_indirect, form, size});
        }
        add(push_handler(Form::r, size), {Kind::push, Form::r, size});
        add(push_handler(Form::ri, size), {Kind::push, Form::ri, size});
        add(pop_handler(Form::r, size), {Kind::pop, Form::r, size});
    }

    void add_sized(uint8_t size) {
        for (uint8_t which = 0; which <= static_cast<uint8_t>(Binary::test); ++which) {
            for (const Form form : {Form::rr, Form::rm, Form::mr, Form::ri, Form::mi})
                add(binary_handler(static_cast<Binary>(which), form, size), {Kind::binary, form, size, which});
        }
        for (uint8_t which = 0; which <= static_cast<uint8_t>(Unary::nott); ++which) {
            for (const Form form : {Form::r, Form::m})
                add(unary_handler(static_cast<Unary>(which), form, size), {Kind::unary, form, size, which});
        }
        for (uint8_t which = 0; which <= static_cast<uint8_t>(Shift::sar); ++which) {
            for (const Form form : {Form::r, Form::m}) {
                const auto shift = static_cast<Shift>(which);
                add(shift_handler(shift, form, Count::immediate, size), {Kind::shift, form, size, which});
                add(shift_handler(shift, form, Count::cl, size), {Kind::shift, form, size, which, 0, true});
            }
        }
        for (const Form form : {Form::rr, Form::rm, Form::mr, Form::ri, Form::mi})
            add(mov_handler(form, size), {Kind::mov, form, size});
        for (const Form form : {Form::rr, Form::mr}) add(xchg_handler(form, size), {Kind::xchg, form, size});
    }

    void add_wide(uint8_t size) {
        for (const uint8_t from : all_sizes) {
            if (from >= size) continue;
            for (const Form form : {Form::rr, Form::rm}) {
                for (const Extend kind : {Extend::zero, Extend::sign}) {
                    if (from == 4 && kind == Extend::zero) continue;  // a plain move
                    const auto which = static_cast<uint8_t>(kind);
                    add(extend_handler(kind, form, from, size), {Kind::extend, form, size, which, from});
                }
            }
        }
        add(lea_handler(size), {Kind::lea, Form::rm, size});
        if (size > 2) add(bswap_handler(size), {Kind::bswap, Form::r, size});
        for (const Form form : {Form::rr, Form::rm}) {
            add(imul_handler(form, false, size), {Kind::imul, form, size});
            add(imul_handler(form, true, size), {Kind::imul, form, size, 0, 0, true});
        }
        for (const BitOp which : {BitOp::test, BitOp::set, BitOp::reset, BitOp::complement}) {
            for (const Form form : {Form::rr, Form::ri, Form::mi})
                add(bit_handler(which, form, size), {Kind::bit, form, size, static_cast<uint8_t>(which)});
        }
    }

    void add_conditional(uint8_t condition) {
        add(jcc_handler(condition), {Kind::jcc, Form::ri, 0, condition});
        for (const Form form : {Form::r, Form::m})
            add(setcc_handler(condition, form), {Kind::setcc, form, 1, condition});
        for (const uint8_t size : wide_sizes) {
            for (const Form form : {Form::rr, Form::rm})
                add(cmov_handler(condition, form, size), {Kind::cmov, form, size, condition});
        }
    }

    std::unordered_map<Handler, Operation> operations_;
};

}  // namespace

Operation operation_of(Handler handler) {
    static const Table table;
    return table.find(handler);
}

}  // namespace viv::soft
