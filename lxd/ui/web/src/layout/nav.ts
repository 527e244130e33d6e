import {
  Boxes,
  Container,
  Database,
  FolderTree,
  LayoutDashboard,
  ListTodo,
  MonitorSmartphone,
  Network,
  Package,
  Server,
  SlidersHorizontal,
} from "lucide-react";
import type { LucideIcon } from "lucide-react";
import type en from "../i18n/en.json";

export interface NavItem {
  to: string;
  label: `nav.${keyof typeof en.nav}`;
  icon: LucideIcon;
}

/** The navigation, in groups. A page more is a line here and a route in the shell. */
export const navigation: NavItem[][] = [
  [
    { to: "/", label: "nav.overview", icon: LayoutDashboard },
    { to: "/instances", label: "nav.instances", icon: Boxes },
    { to: "/images", label: "nav.images", icon: Package },
    { to: "/profiles", label: "nav.profiles", icon: SlidersHorizontal },
  ],
  [
    { to: "/networks", label: "nav.networks", icon: Network },
    { to: "/storage", label: "nav.storage", icon: Database },
    { to: "/projects", label: "nav.projects", icon: FolderTree },
  ],
  [
    { to: "/operations", label: "nav.operations", icon: ListTodo },
    { to: "/cluster", label: "nav.cluster", icon: Server },
    { to: "/sessions", label: "nav.sessions", icon: MonitorSmartphone },
  ],
];

export const ProductIcon = Container;
