#include "vmm/boot/flat_program.hpp"

#include <algorithm>

#include "vmm/boot/load_plan.hpp"

namespace viv::boot {

Result<std::unique_ptr<Kernel>> make_flat_program(KernelFiles files, const KernelMachine& machine, uint32_t address) {
    if (!files.modules.empty() || !files.command_line.empty()) {
        return fail_usage(
            "a program at a load address gets no modules and no command line: there is nobody to tell it");
    }
    if (files.kernel.content.empty()) return fail_usage("it is empty");
    LoadPlan plan(std::move(files), machine.memory_map);
    TRY(plan.add_part({address, plan.files.kernel.content, plan.files.kernel.content.size()}));
    plan.entry = address;
    constexpr uint32_t mib = 1 << 20;
    if (address < mib) {
        plan.mode = LoadPlan::Mode::real;
    } else {
        TRY(plan.add_descriptor_table());
    }
    return kernel_of(std::move(plan));
}

}  // namespace viv::boot
