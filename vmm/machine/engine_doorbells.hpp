#pragma once

#include <vector>

#include "vmm/core/doorbells.hpp"
#include "vmm/engine/engine.hpp"

namespace viv {

/// The doorbells of a machine, which moves them from engine to engine with itself.
class EngineDoorbells final : public Doorbells {
  public:
    /// The engine that runs the machine from now on; the one before needs not be there any more.
    void use(Engine& engine);
    bool add_doorbell(uint64_t address, uint8_t size, int event) override;
    void remove_doorbell(uint64_t address, uint8_t size, int event) override;

  private:
    struct Bell {
        uint64_t address = 0;
        uint8_t size = 0;
        int event = -1;
        bool operator==(const Bell&) const = default;
    };
    std::vector<Bell> bells_;
    Doorbells* engine_ = nullptr;  // if it is one that can
};

}  // namespace viv
