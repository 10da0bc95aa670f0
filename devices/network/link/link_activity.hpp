#pragma once

#include <map>

#include "vmm/core/types.hpp"

namespace viv {

/// What the links of a machine have to do, for a machine on virtual time that has nothing to do itself: it may jump to
/// its next deadline only when no frame is on its way. And while something outside of the machine may answer, it lets
/// host time pass instead, or the guest would give up waiting.
class LinkActivity {
  public:
    /// A handler of the loop was asked for, and has run.
    void begin_work() { ++work_; }
    void end_work() { --work_; }
    [[nodiscard]] bool works() const { return work_ != 0; }

    /// `fd` is readable when something has come for `link`; -1: nothing can come now.
    void expect(const void* link, int fd);
    [[nodiscard]] bool expected() const { return !descriptors_.empty(); }
    /// Sleeps until something has come, or for so long (host time). Returns whether something has.
    [[nodiscard]] bool wait(Duration at_most) const;

  private:
    unsigned work_ = 0;
    std::map<const void*, int> descriptors_;
};

}  // namespace viv
