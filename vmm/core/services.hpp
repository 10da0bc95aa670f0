#pragma once

#include <map>
#include <string>
#include <string_view>
#include <typeindex>
#include <utility>

namespace viv {

/// What devices offer each other and the machine, found by interface and, where a board has several, by name.
/// A device provides its interfaces when it is made; whoever needs one of an earlier node finds it here.
class Services {
  public:
    template <class Interface>
    void provide(Interface& implementation, std::string_view name = {}) {
        table_[{std::type_index(typeid(Interface)), std::string(name)}] = &implementation;
    }
    /// nullptr when nobody provides it.
    template <class Interface>
    [[nodiscard]] Interface* find(std::string_view name = {}) const {
        const auto at = table_.find({std::type_index(typeid(Interface)), std::string(name)});
        return at == table_.end() ? nullptr : static_cast<Interface*>(at->second);
    }

  private:
    std::map<std::pair<std::type_index, std::string>, void*> table_;
};

}  // namespace viv
