#include "vmm/machine/engine_doorbells.hpp"

namespace viv {

void EngineDoorbells::use(Engine& engine) {
    engine_ = dynamic_cast<Doorbells*>(&engine);
    // Where the new one refuses, the writes reach the bus, which their devices expect at any time.
    for (const Bell& bell : bells_) {
        if (engine_) engine_->add_doorbell(bell.address, bell.size, bell.event);
    }
}

bool EngineDoorbells::add_doorbell(uint64_t address, uint8_t size, int event) {
    if (!engine_ || !engine_->add_doorbell(address, size, event)) return false;
    bells_.push_back({address, size, event});
    return true;
}

void EngineDoorbells::remove_doorbell(uint64_t address, uint8_t size, int event) {
    if (std::erase(bells_, Bell{address, size, event}) && engine_) engine_->remove_doorbell(address, size, event);
}

}  // namespace viv
